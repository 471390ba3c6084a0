// The official OpenAI client and the Vercel AI SDK, which checks every field
// it reads, against all three providers through POST /v1/chat/completions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const { SHEEPGATE_URL: url, SHEEPGATE_KEY: key, SHEEPGATE_ADMIN: admin } = process.env;
const models = ['gpt-4.1', 'claude-sonnet-4-5', 'gemini-2.5-flash'];
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const vercel = createOpenAICompatible({ name: 'sheepgate', baseURL: `${url}/v1`, apiKey: key, includeUsage: true, supportsStructuredOutputs: true });

const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'What is the weather in Seoul?' }];
const City = z.object({ city: z.string(), days: z.number().int(), units: z.enum(['metric', 'imperial']) });
const weather = {
  type: 'function',
  function: { name: 'get_weather', description: 'Weather of a city.', parameters: {
    type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } }, required: ['city', 'days'], additionalProperties: false } },
};

// What the clients were told they used; compared with the books at the end.
const seen = { requests: 0, input: 0, output: 0 };
const untold = new Set(); // ids of the calls whose clients asked for no usage
function count(input, output) {
  assert.ok(Number.isInteger(input) && input > 0, `input tokens ${input}`);
  assert.ok(Number.isInteger(output) && output > 0, `output tokens ${output}`);
  seen.requests++;
  seen.input += input;
  seen.output += output;
}
const countOpenAI = (u) => {
  assert.equal(u.total_tokens, u.prompt_tokens + u.completion_tokens);
  count(u.prompt_tokens, u.completion_tokens);
};

for (const model of models) {
  test(`openai: plain, ${model}`, async () => {
    const r = await openai.chat.completions.create({ model, messages });
    assert.equal(r.object, 'chat.completion');
    assert.ok(r.id && r.created > 0 && r.model);
    assert.equal(r.choices.length, 1);
    assert.equal(r.choices[0].message.role, 'assistant');
    assert.ok(r.choices[0].message.content.length > 0);
    assert.equal(r.choices[0].finish_reason, 'stop');
    countOpenAI(r.usage);
  });

  test(`openai: streamed, ${model}`, async () => {
    const stream = openai.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    let text = '';
    stream.on('content', (delta) => { text += delta; });
    const r = await stream.finalChatCompletion();
    assert.ok(text.length > 0);
    assert.equal(r.choices[0].message.content, text);
    assert.equal(r.choices[0].finish_reason, 'stop');
    countOpenAI(r.usage);
  });

  test(`openai: no usage chunk unless asked for, ${model}`, async () => {
    const { data: stream, response } = await openai.chat.completions.create({ model, messages, stream: true }).withResponse();
    untold.add(response.headers.get('sheepgate-call-id'));
    for await (const chunk of stream) {
      assert.equal(chunk.choices.length, 1);
      assert.equal(chunk.usage ?? null, null);
    }
  });

  for (const streamed of [false, true]) {
    test(`openai: tools, ${streamed ? 'streamed' : 'plain'}, ${model}`, async () => {
      const body = { model, messages, tools: [weather] };
      const ask = async (b) => {
        const r = streamed
          ? await openai.chat.completions.stream({ ...b, stream_options: { include_usage: true } }).finalChatCompletion()
          : await openai.chat.completions.create(b);
        countOpenAI(r.usage);
        return r.choices[0];
      };
      const first = await ask(body);
      assert.equal(first.finish_reason, 'tool_calls');
      const [call] = first.message.tool_calls;
      assert.equal(call.type, 'function');
      assert.ok(call.id);
      assert.equal(call.function.name, 'get_weather');
      const args = JSON.parse(call.function.arguments);
      assert.equal(typeof args.city, 'string');
      assert.ok(Number.isInteger(args.days));
      const { parsed: _, ...reply } = first.message;
      const second = await ask({ ...body, messages: [...messages, reply, { role: 'tool', tool_call_id: call.id, content: '{"sky":"clear"}' }] });
      assert.equal(second.finish_reason, 'stop');
      assert.ok(second.message.content.length > 0);
    });
  }

  test(`openai: JSON schema, ${model}`, async () => {
    const r = await openai.chat.completions.parse({ model, messages, response_format: zodResponseFormat(City, 'city') });
    City.parse(r.choices[0].message.parsed);
    countOpenAI(r.usage);
  });

  test(`ai: plain, ${model}`, async () => {
    const r = await generateText({ model: vercel(model), prompt: 'Say hello.', maxRetries: 0 });
    assert.ok(r.text.length > 0);
    assert.equal(r.finishReason, 'stop');
    count(r.usage.inputTokens, r.usage.outputTokens);
  });

  test(`ai: streamed, ${model}`, async () => {
    const failures = [];
    const r = streamText({ model: vercel(model), prompt: 'Say hello.', maxRetries: 0, onError: ({ error }) => failures.push(error) });
    let text = '';
    for await (const delta of r.textStream) text += delta;
    assert.deepEqual(failures, []);
    assert.ok(text.length > 0);
    assert.equal(await r.finishReason, 'stop');
    const usage = await r.usage;
    count(usage.inputTokens, usage.outputTokens);
  });

  for (const streamed of [false, true]) {
    test(`ai: tools, ${streamed ? 'streamed' : 'plain'}, ${model}`, async () => {
      let called = null;
      const options = {
        model: vercel(model), prompt: 'What is the weather in Seoul?', maxRetries: 0, stopWhen: stepCountIs(3),
        tools: { get_weather: tool({ description: 'Weather of a city.', inputSchema: z.object({ city: z.string(), days: z.number().int() }),
          execute: async (input) => { called = input; return { sky: 'clear' }; } }) },
      };
      const failures = [];
      const r = streamed ? streamText({ ...options, onError: ({ error }) => failures.push(error) }) : await generateText(options);
      const text = await r.text;
      const steps = await r.steps;
      assert.deepEqual(failures, []);
      assert.equal(typeof called?.city, 'string');
      assert.equal(steps.length, 2);
      assert.equal(steps[0].finishReason, 'tool-calls');
      assert.ok(text.length > 0);
      for (const step of steps) count(step.usage.inputTokens, step.usage.outputTokens);
    });
  }

  test(`ai: JSON schema, ${model}`, async () => {
    const r = await generateObject({ model: vercel(model), schema: City, prompt: 'Where and how long?', maxRetries: 0 });
    City.parse(r.object);
    count(r.usage.inputTokens, r.usage.outputTokens);
  });
}

test('openai: errors are its own', async () => {
  await assert.rejects(openai.chat.completions.create({ model: 'no-such-model', messages }), (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
  await assert.rejects(new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 }).chat.completions.create({ model: models[0], messages }),
    (e) => e instanceof OpenAI.AuthenticationError);
});

// The sum of what the clients were told is what the gateway has stored, and a
// stream whose client was told nothing is stored with its usage all the same.
test('the books', async () => {
  let calls;
  for (let i = 0; i < 20; i++) { // readable at most 1 s after the answer
    const r = await fetch(`${url}/api/v1/calls?status=success&limit=500`, { headers: { authorization: `Bearer ${admin}` } });
    assert.equal(r.status, 200);
    calls = (await r.json()).calls;
    if (calls.length === seen.requests + untold.size) break;
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.equal(calls.length, seen.requests + untold.size);
  const stored = { requests: 0, input: 0, output: 0 };
  for (const c of calls) {
    assert.equal(c.usage.source, 'upstream');
    assert.ok(c.usage.input_tokens > 0 && c.usage.output_tokens > 0 && c.cost_nano_usd > 0, JSON.stringify(c));
    if (untold.delete(c.id)) continue;
    stored.requests++;
    stored.input += c.usage.input_tokens;
    stored.output += c.usage.output_tokens;
  }
  assert.deepEqual(stored, seen);
  assert.equal(untold.size, 0);
});
