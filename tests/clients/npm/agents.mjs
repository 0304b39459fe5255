// OpenAI's Agents SDK as it is by default: it speaks the Responses API.
import { Agent, run, setDefaultOpenAIClient, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { FORECAST, MODEL, STORY, WEATHER, city } from "./shared.mjs";

setTracingDisabled(true);
setDefaultOpenAIClient(new OpenAI({ maxRetries: 0 }));

// The model of the tests thinks without end about what it never learned to call.
const FORCED = { toolChoice: "required", reasoning: { effort: "none" } };

const calls = [];
const get_weather = tool({
  name: "get_weather",
  description: "Get the weather in a city.",
  parameters: city,
  execute: async (input) => {
    calls.push(input);
    return FORECAST;
  },
});

export function scenarios() {
  return {
    async tools() {
      const agent = new Agent({ name: "Helper", model: MODEL, tools: [get_weather] });
      const { finalOutput } = await run(agent, WEATHER);
      return { calls, answer: finalOutput };
    },

    async handoff() {
      const poet = new Agent({ name: "Poet", model: MODEL });
      const triage = new Agent({ name: "Triage", model: MODEL, handoffs: [poet], modelSettings: FORCED });
      const { finalOutput, lastAgent } = await run(triage, STORY);
      return { agent: lastAgent.name, text: finalOutput };
    },

    async stream() {
      const agent = new Agent({ name: "Helper", model: MODEL });
      const streamed = await run(agent, STORY, { stream: true });
      const pieces = [];
      for await (const piece of streamed.toTextStream()) pieces.push(piece);
      await streamed.completed;
      return { pieces, text: streamed.finalOutput };
    },
  };
}
