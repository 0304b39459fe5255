// npm's openai: chat, a stream, a tool, errors, models, embeddings.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const embedding = JSON.parse(process.argv[2]);
const model = "gpt-4o";
const story = [{ role: "user", content: "Tell me a story about a fox." }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Get the weather in a city.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

async function raised(call) {
  try {
    await call();
  } catch (error) {
    return error.constructor.name;
  }
  return "nothing";
}

const messages = [{ role: "user", content: "Hello! My name is Ada." }];
messages.push((await client.chat.completions.create({ model, messages })).choices[0].message);
messages.push({ role: "user", content: "What is my name?" });
const recalled = await client.chat.completions.create({ model, messages });
const whole = await client.chat.completions.create({ model, messages: story, temperature: 0 });
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages: story, temperature: 0, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const question = [{ role: "user", content: "What is the weather in Paris?" }];
const called = await client.chat.completions.create({ model, messages: question, tools });
const wrong = new OpenAI({ maxRetries: 0, apiKey: "sk-wrong" });
const errors = [
  await raised(() => client.chat.completions.create({ model, messages: story, temperature: 9 })),
  await raised(() => client.chat.completions.create({ model: "no-such-model", messages: story })),
  await raised(() => wrong.models.list()),
];
const models = [];
for await (const one of client.models.list()) models.push(one.id);
let embeddingSize = null;
if (embedding !== null) {
  embeddingSize = (await client.embeddings.create({ model: embedding, input: "Hello" })).data[0].embedding.length;
}
console.log(
  JSON.stringify({
    recalled: recalled.choices[0].message.content,
    whole: whole.choices[0].message.content,
    streamed,
    usage: whole.usage,
    calls: called.choices[0].message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    errors,
    models,
    embeddingSize,
  }),
);
