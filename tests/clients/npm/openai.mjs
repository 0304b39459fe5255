// OpenAI's own client.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { EMBEDDING, FORECAST, MODEL, QUESTIONS, SECRET, STORY, TEXTS, WEATHER, WHICH_UNIT, asked, city, nearness, raised, unit } from "./shared.mjs";

const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Get the weather in a city.",
      parameters: z.toJSONSchema(city),
    },
  },
];

export function scenarios() {
  const client = new OpenAI({ maxRetries: 0 });
  const { completions } = client.chat;
  const story = { model: MODEL, messages: asked(STORY), temperature: 0 };
  const called = ({ function: { name, arguments: json } }) => ({ name, input: JSON.parse(json) });

  return {
    async chat() {
      const messages = asked("Hello! My name is Ada.");
      messages.push((await completions.create({ model: MODEL, messages })).choices[0].message);
      messages.push(...asked("What is my name?"));
      const { choices, usage } = await completions.create({ model: MODEL, messages });
      return {
        text: choices[0].message.content,
        finish: choices[0].finish_reason,
        usage: [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens],
      };
    },

    async secret() {
      const messages = [];
      for (const question of [SECRET, ...QUESTIONS]) {
        messages.push(...asked(question));
        messages.push((await completions.create({ model: MODEL, messages })).choices[0].message);
      }
      return messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
    },

    async stream() {
      const whole = await completions.create(story);
      const stream = completions.stream({ ...story, stream_options: { include_usage: true } });
      const pieces = [];
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
      }
      return {
        whole: whole.choices[0].message.content,
        pieces,
        tokens: [whole.usage.completion_tokens, (await stream.totalUsage()).completion_tokens],
      };
    },

    async leave() {
      for await (const chunk of await completions.create({ ...story, stream: true })) {
        if (chunk.choices[0]?.delta.content) return { left: true };
      }
    },

    async tools() {
      const messages = asked(WEATHER);
      const { message } = (await completions.create({ model: MODEL, messages, tools })).choices[0];
      const [call] = message.tool_calls;
      messages.push(message, { role: "tool", tool_call_id: call.id, content: FORECAST });
      const answer = await completions.create({ model: MODEL, messages, tools });
      const streamed = await completions.stream({ model: MODEL, messages: asked(WEATHER), tools }).finalMessage();
      return {
        call: called(call),
        answer: answer.choices[0].message.content,
        streamed: called(streamed.tool_calls[0]),
      };
    },

    async schema() {
      const response_format = zodResponseFormat(unit, "unit");
      const reply = await completions.parse({ model: MODEL, messages: asked(WHICH_UNIT), response_format });
      return reply.choices[0].message.parsed;
    },

    async embeddings() {
      const { data } = await client.embeddings.create({ model: EMBEDDING, input: TEXTS });
      return nearness(data.map((one) => one.embedding));
    },

    errors() {
      const stranger = new OpenAI({ maxRetries: 0, apiKey: "sk-wrong" });
      return raised({
        value: () => completions.create({ ...story, temperature: 9 }),
        stream: () => completions.create({ ...story, temperature: 9, stream: true }),
        model: () => completions.create({ ...story, model: "no-such-model" }),
        key: () => stranger.chat.completions.create(story),
      });
    },

    async models() {
      const names = [];
      for await (const { id } of client.models.list()) names.push(id);
      return names;
    },
  };
}
