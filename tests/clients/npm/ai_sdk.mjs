// Vercel's AI SDK, with its provider for OpenAI or the one for compatible servers.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { EMBEDDING, FORECAST, MODEL, QUESTIONS, SECRET, STORY, TEXTS, WEATHER, WHICH_UNIT, asked, city, nearness, raised, unit } from "./shared.mjs";

function connect(provider, apiKey = process.env.OPENAI_API_KEY) {
  const baseURL = process.env.OPENAI_BASE_URL;
  if (provider === "responses") {
    // What its provider is by default.
    const openai = createOpenAI({ baseURL, apiKey });
    return { chat: (name) => openai(name), embedding: openai.embedding(EMBEDDING) };
  }
  if (provider === "openai") {
    const openai = createOpenAI({ baseURL, apiKey });
    return { chat: (name) => openai.chat(name), embedding: openai.embedding(EMBEDDING) };
  }
  const compatible = createOpenAICompatible({
    name: "ark",
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  return { chat: (name) => compatible.chatModel(name), embedding: compatible.embeddingModel(EMBEDDING) };
}

export function scenarios(provider) {
  const { chat, embedding } = connect(provider);
  const base = { model: chat(MODEL), maxRetries: 0 };
  const story = { ...base, prompt: STORY, temperature: 0 };
  const get_weather = tool({
    description: "Get the weather in a city.",
    inputSchema: city,
    execute: async () => JSON.parse(FORECAST),
  });
  const called = ({ toolName, input }) => ({ name: toolName, input });

  return {
    async chat() {
      const messages = asked("Hello! My name is Ada.");
      messages.push(...(await generateText({ ...base, messages })).response.messages);
      messages.push(...asked("What is my name?"));
      const { text, finishReason, usage } = await generateText({ ...base, messages });
      return { text, finish: finishReason, usage: [usage.inputTokens, usage.outputTokens, usage.totalTokens] };
    },

    async secret() {
      const messages = [];
      const replies = [];
      for (const question of [SECRET, ...QUESTIONS]) {
        messages.push(...asked(question));
        const stream = streamText({ ...base, messages });
        replies.push(await stream.text);
        messages.push(...(await stream.response).messages);
      }
      return replies;
    },

    async stream() {
      const whole = await generateText(story);
      const stream = streamText(story);
      const pieces = [];
      for await (const piece of stream.textStream) pieces.push(piece);
      return { whole: whole.text, pieces, tokens: [whole.usage.outputTokens, (await stream.usage).outputTokens] };
    },

    async leave() {
      const leaving = new AbortController();
      for await (const _ of streamText({ ...story, abortSignal: leaving.signal }).textStream) {
        leaving.abort();
        return { left: true };
      }
    },

    async tools() {
      const request = { ...base, prompt: WEATHER, tools: { get_weather }, stopWhen: stepCountIs(2) };
      const { steps, text } = await generateText(request);
      const streamed = await streamText(request).steps;
      return { call: called(steps[0].toolCalls[0]), answer: text, streamed: called(streamed[0].toolCalls[0]) };
    },

    async schema() {
      return (await generateText({ ...base, prompt: WHICH_UNIT, output: Output.object({ schema: unit }) })).output;
    },

    async embeddings() {
      return nearness((await embedMany({ model: embedding, values: TEXTS, maxRetries: 0 })).embeddings);
    },

    errors() {
      // The SDK tells the error of a stream to a callback, and ends the stream.
      const streamed = () =>
        new Promise((resolve, reject) => {
          const stream = streamText({ ...story, temperature: 9, onError: ({ error }) => reject(error) });
          stream.consumeStream().then(resolve);
        });
      return raised({
        value: () => generateText({ ...story, temperature: 9 }),
        stream: streamed,
        model: () => generateText({ ...story, model: chat("no-such-model") }),
        key: () => generateText({ ...story, model: connect(provider, "sk-wrong").chat(MODEL) }),
      });
    },
  };
}
