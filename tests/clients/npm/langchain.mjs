// LangChain's chat model and embeddings.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { EMBEDDING, FORECAST, MODEL, QUESTIONS, SECRET, STORY, TEXTS, WEATHER, WHICH_UNIT, city, nearness, raised, unit } from "./shared.mjs";

const connect = (options) =>
  new ChatOpenAI({
    model: MODEL,
    maxRetries: 0,
    configuration: { baseURL: process.env.OPENAI_BASE_URL },
    ...options,
  });

export function scenarios() {
  const chat = connect({ temperature: 0 });
  const story = [new HumanMessage(STORY)];
  const weather = tool(async () => FORECAST, {
    name: "get_weather",
    description: "Get the weather in a city.",
    schema: city,
  });
  const called = ({ name, args }) => ({ name, input: args });

  async function collected(stream) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return [chunks, chunks.reduce((sum, chunk) => sum.concat(chunk))];
  }

  return {
    async chat() {
      const messages = [new HumanMessage("Hello! My name is Ada.")];
      messages.push(await chat.invoke(messages), new HumanMessage("What is my name?"));
      const { content, response_metadata, usage_metadata: usage } = await chat.invoke(messages);
      return {
        text: content,
        finish: response_metadata.finish_reason,
        usage: [usage.input_tokens, usage.output_tokens, usage.total_tokens],
      };
    },

    async secret() {
      const messages = [];
      for (const question of [SECRET, ...QUESTIONS]) {
        messages.push(new HumanMessage(question));
        messages.push(await chat.invoke(messages));
      }
      return messages.filter((message) => message.getType() === "ai").map(({ content }) => content);
    },

    async stream() {
      const whole = await chat.invoke(story);
      const [chunks, streamed] = await collected(await chat.stream(story));
      return {
        whole: whole.content,
        pieces: chunks.map((chunk) => chunk.content).filter(Boolean),
        tokens: [whole.usage_metadata.output_tokens, streamed.usage_metadata.output_tokens],
      };
    },

    async leave() {
      for await (const chunk of await chat.stream(story)) {
        if (chunk.content) return { left: true };
      }
    },

    async tools() {
      const bound = chat.bindTools([weather]);
      const messages = [new HumanMessage(WEATHER)];
      const reply = await bound.invoke(messages);
      const [call] = reply.tool_calls;
      messages.push(reply, new ToolMessage({ content: await weather.invoke(call.args), tool_call_id: call.id }));
      const [, streamed] = await collected(await bound.stream([new HumanMessage(WEATHER)]));
      return {
        call: called(call),
        answer: (await bound.invoke(messages)).content,
        streamed: called(streamed.tool_calls[0]),
      };
    },

    schema() {
      return chat.withStructuredOutput(unit, { method: "jsonSchema", name: "unit" }).invoke(WHICH_UNIT);
    },

    async embeddings() {
      const configuration = { baseURL: process.env.OPENAI_BASE_URL };
      return nearness(await new OpenAIEmbeddings({ model: EMBEDDING, configuration, maxRetries: 0 }).embedDocuments(TEXTS));
    },

    errors() {
      return raised({
        value: () => connect({ temperature: 9 }).invoke(story),
        stream: async () => collected(await connect({ temperature: 9 }).stream(story)),
        model: () => connect({ model: "no-such-model" }).invoke(story),
        key: () => connect({ apiKey: "sk-wrong" }).invoke(story),
      });
    },
  };
}
