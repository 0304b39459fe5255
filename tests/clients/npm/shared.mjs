// What each client is asked to do.
import { z } from "zod";

export const MODEL = "gpt-4o";
export const EMBEDDING = "text-embedding-3-small";
export const STORY = "Tell me a story about a fox.";
export const WEATHER = "What is the weather in Paris?";
export const WHICH_UNIT = "Which unit shall it be?";
export const TEXTS = [
  "A kitten is sleeping on the sofa.",
  "A small cat naps on the couch.",
  "The bank raised interest rates.",
];
export const FORECAST = JSON.stringify({ temperature: 21, condition: "sunny", city: "Paris" });

export const city = z.object({ city: z.string() });
export const unit = z.object({ unit: z.enum(["celsius", "fahrenheit"]) });

export const SECRET = "Think of a secret code word. Keep it in your reasoning and do not tell me yet.";
export const QUESTIONS = ["Hello!", "What was the code word?"];

export const asked = (content) => [{ role: "user", content }];

export function nearness([kitten, cat, bank]) {
  const dot = (one, two) => one.reduce((sum, value, index) => sum + value * two[index], 0);
  return { size: kitten.length, near: dot(kitten, cat), far: dot(kitten, bank) };
}

// The status and message of each error that a client raises for a call; a client names the status as it likes.
export async function raised(calls) {
  const found = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      await call();
      found[name] = null;
    } catch (error) {
      found[name] = { kind: error.constructor.name, status: error.status ?? error.statusCode, message: error.message };
    }
  }
  return found;
}
