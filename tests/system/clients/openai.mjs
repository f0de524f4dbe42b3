// The official `openai` package against a running server: node openai.mjs BASE KEY MODEL [other model without a template]
import OpenAI from 'openai';
import { base, check, collect, equal, finish, key, model, refused, truth } from './common.mjs';

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0, timeout: 100000 });
const user = (content) => [{ role: 'user', content }];
const greedy = { model, messages: user('Tell me of a dog'), max_tokens: 24, temperature: 0 };
const chat = (more = {}) => client.chat.completions.create({ ...greedy, ...more });
const text = (answer, i = 0) => answer.choices[i].message.content;
const complete = (more = {}) => client.completions.create({ model, prompt: 'Once upon a time', max_tokens: 12, temperature: 0, ...more });

await check('models.list', async () => {
  const all = await collect(client.models.list());
  truth(all.some((m) => m.id === model), `no ${model} among ${all.map((m) => m.id)}`);
  truth(all.every((m) => m.object === 'model' && Number.isInteger(m.created) && typeof m.owned_by === 'string'), 'a field is missing');
});

await check('models.retrieve', async () => equal((await client.models.retrieve(model)).id, model));

await check('chat', async () => {
  const a = await chat();
  equal([a.object, a.choices.length, a.choices[0].index, a.choices[0].message.role, a.choices[0].message.refusal], ['chat.completion', 1, 0, 'assistant', null]);
  truth(['stop', 'length'].includes(a.choices[0].finish_reason), a.choices[0].finish_reason);
  truth(text(a).length > 0 && a.id.startsWith('chatcmpl-') && Number.isInteger(a.created), 'text, id or created');
  equal(a.usage.total_tokens, a.usage.prompt_tokens + a.usage.completion_tokens, 'total_tokens');
  truth(a.usage.completion_tokens <= 24, `${a.usage.completion_tokens} tokens`);
});

await check('chat stream says the same as the whole answer', async () => {
  const whole = await chat(), parts = await collect(await chat({ stream: true }));
  equal(parts[0].choices[0].delta.role, 'assistant', 'first role');
  truth(parts[0].choices[0].delta.content === '' || typeof parts[0].choices[0].delta.content === 'string', 'first content is a text');
  equal(parts.map((p) => p.choices[0]?.delta?.content ?? '').join(''), text(whole), 'text');
  equal(new Set(parts.map((p) => p.id)).size, 1, 'ids');
  const reasons = parts.map((p) => p.choices[0]?.finish_reason).filter(Boolean);
  equal(reasons, [whole.choices[0].finish_reason], 'finish reasons');
  truth(parts.every((p) => p.object === 'chat.completion.chunk' && !p.usage), 'object, or usage that nobody asked for');
});

await check('chat stream with usage', async () => {
  const parts = await collect(await chat({ stream: true, stream_options: { include_usage: true } })), last = parts.at(-1);
  equal(last.choices, [], 'choices of the last');
  equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens, 'total');
  truth(parts.slice(0, -1).every((p) => p.usage === null), 'usage must be null before the last');
  equal(last.usage.completion_tokens, (await chat()).usage.completion_tokens, 'completion_tokens');
});

await check('chat n=2', async () => {
  const a = await chat({ n: 2, temperature: 1, seed: 7 });
  equal(a.choices.map((c) => c.index), [0, 1], 'indexes');
  truth(a.choices.every((c) => typeof c.message.content === 'string' && c.finish_reason), 'content or finish_reason');
});

await check('chat stream n=2', async () => {
  const parts = await collect(await chat({ n: 2, temperature: 1, seed: 7, stream: true }));
  const whole = await chat({ n: 2, temperature: 1, seed: 7 });
  for (const i of [0, 1])
    equal(parts.flatMap((p) => p.choices).filter((c) => c.index === i).map((c) => c.delta.content ?? '').join(''), text(whole, i), `text ${i}`);
});

await check('stop string ends the text before it', async () => {
  const whole = text(await chat()), from = whole.trimStart().length ? whole.length - whole.trimStart().length + 3 : 0;
  const stop = whole.slice(from, from + 3), a = await chat({ stop: [stop] });
  equal(text(a), whole.slice(0, whole.indexOf(stop)), 'text');
  equal(a.choices[0].finish_reason, 'stop');
  const parts = await collect(await chat({ stop, stream: true }));
  equal(parts.map((p) => p.choices[0]?.delta?.content ?? '').join(''), text(a), 'streamed text');
});

await check('the same seed gives the same text', async () => {
  const one = { temperature: 1, seed: 42 };
  equal(text(await chat(one)), text(await chat(one)));
});

await check('parallel requests give the text of one alone', async () => {
  const alone = text(await chat());
  const beside = await Promise.all(Array.from({ length: 8 }, (_, i) => chat(i % 2 ? { stream: true } : {})));
  for (const [i, a] of beside.entries())
    equal(i % 2 ? (await collect(a)).map((p) => p.choices[0]?.delta?.content ?? '').join('') : text(a), alone, `request ${i}`);
});

await check('logprobs', async () => {
  const a = await chat({ logprobs: true, top_logprobs: 3, max_tokens: 5 }), content = a.choices[0].logprobs.content;
  equal(content.length, a.usage.completion_tokens, 'one entry a token');
  for (const c of content) {
    truth(typeof c.token === 'string' && c.logprob <= 0 && Array.isArray(c.bytes), 'token, logprob or bytes');
    equal(c.top_logprobs.length, 3, 'top_logprobs');
    truth(c.top_logprobs.every((t, i, l) => !i || l[i - 1].logprob >= t.logprob), 'top_logprobs descend');
    equal(c.top_logprobs[0].token, c.token, 'greedy: the likeliest token');
  }
  equal(Buffer.concat(content.map((c) => Buffer.from(c.bytes))).toString('utf8'), text(a), 'bytes of the tokens');
});

await check('max_tokens and max_completion_tokens', async () => {
  for (const limit of [{ max_tokens: 3 }, { max_tokens: undefined, max_completion_tokens: 3 }]) {
    const a = await chat(limit);
    truth(a.usage.completion_tokens <= 3, JSON.stringify(a.usage));
    if (a.usage.completion_tokens === 3) equal(a.choices[0].finish_reason, 'length');
  }
});

await check('content parts and a system message', async () => {
  const parts = await chat({ messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: [{ type: 'text', text: 'Tell me of ' }, { type: 'text', text: 'a dog' }] }] });
  const plain = await chat({ messages: [{ role: 'system', content: 'Be brief.' }, ...user('Tell me of a dog')] });
  equal(text(parts), text(plain));
});

await check('abort mid-stream, and the server goes on', async () => {
  const stream = await chat({ stream: true, max_tokens: 200 });
  let n = 0;
  for await (const _ of stream) if (++n === 3) stream.controller.abort();
  truth(n >= 3, `${n} chunks`);
  equal(text(await chat()), text(await chat()), 'answers after it');
});

await check('abort before the first token', async () => {
  const gone = new AbortController(), asked = client.chat.completions.create({ ...greedy, stream: true }, { signal: gone.signal });
  setTimeout(() => gone.abort(), 1);
  try {
    for await (const _ of await asked);
  } catch (e) {
    truth(e instanceof OpenAI.APIUserAbortError, e.constructor.name);
  }
  truth(text(await chat()).length, 'no answer after it');
});

await check('wrong key', async () => {
  const stranger = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'wrong', maxRetries: 0 });
  const e = await refused(stranger.models.list(), OpenAI.AuthenticationError, { status: 401 });
  truth(e.message.length > 5, 'a message');
});

await check('unknown model', () => refused(chat({ model: 'no-such-model' }), OpenAI.NotFoundError, { status: 404, code: 'model_not_found' }));

await check('too long', () => refused(chat({ messages: user('dog '.repeat(60000)) }), OpenAI.BadRequestError, { status: 400, code: 'context_length_exceeded' }));

await check('values out of range', async () => {
  for (const bad of [{ temperature: -1 }, { temperature: 'hot' }, { top_p: 2 }, { n: 0 }, { max_tokens: 'many' }, { stop: ['a', 'b', 'c', 'd', 7] }, { top_logprobs: 21, logprobs: true }, { messages: [] }])
    await refused(chat(bad), OpenAI.BadRequestError, { status: 400 }).catch((e) => { throw new Error(`${JSON.stringify(bad)}: ${e.message}`); });
});

await check('an unknown parameter is refused by name', async () => {
  const e = await refused(chat({ no_such_parameter: 1 }), OpenAI.BadRequestError, { status: 400 });
  truth(e.message.includes('no_such_parameter'), e.message);
});

await check('parameters whose value changes nothing', async () => {
  equal(text(await chat({ user: 'u', metadata: { a: 'b' }, store: false })), text(await chat()));
});

await check('completion', async () => {
  const a = await complete();
  equal([a.object, a.choices.length, typeof a.choices[0].text], ['text_completion', 1, 'string']);
  truth(a.usage.completion_tokens <= 12 && ['stop', 'length'].includes(a.choices[0].finish_reason), 'usage or finish_reason');
});

await check('completion stream', async () => {
  const parts = await collect(await complete({ stream: true }));
  equal(parts.map((p) => p.choices[0]?.text ?? '').join(''), (await complete()).choices[0].text);
});

await check('completion of several prompts', async () => {
  const prompts = ['Once upon a time', 'The cat'], a = await complete({ prompt: prompts });
  equal(a.choices.map((c) => c.index), [0, 1], 'indexes');
  for (const [i, prompt] of prompts.entries()) equal(a.choices[i].text, (await complete({ prompt })).choices[0].text, `text ${i}`);
});

await check('completion of token ids', async () => {
  const { tokens } = await (await fetch(`${base}/tokenize`, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, content: 'Once upon a time', add_special: true }) })).json();
  equal((await complete({ prompt: tokens })).choices[0].text, (await complete()).choices[0].text);
});

await check('completion echo', async () => {
  const plain = (await complete()).choices[0].text, echo = (await complete({ echo: true })).choices[0].text;
  equal(echo, 'Once upon a time' + plain);
});

await check('completion logprobs', async () => {
  const a = await complete({ logprobs: 2, max_tokens: 4 }), l = a.choices[0].logprobs, n = a.usage.completion_tokens;
  equal([l.tokens.length, l.token_logprobs.length, l.top_logprobs.length, l.text_offset.length], [n, n, n, n], 'lengths');
  truth(l.token_logprobs.every((v) => v <= 0), 'logprobs above 0');
  truth(l.top_logprobs.every((t) => Object.keys(t).length >= 1 && Object.keys(t).length <= 3), 'top_logprobs');
});

await check('completion default length is 16', async () => {
  truth((await complete({ max_tokens: undefined })).usage.completion_tokens <= 16, 'more than 16');
});

finish();
