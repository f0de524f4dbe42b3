// The official `ollama` package against a running server: node ollama.mjs BASE KEY MODEL
import { Ollama } from 'ollama';
import { base, check, collect, equal, finish, key, model, refused, truth } from './common.mjs';

const headers = { Authorization: `Bearer ${key}` };
const client = new Ollama({ host: base, headers });
const options = { temperature: 0, num_predict: 16 };
const generate = (more = {}) => client.generate({ model, prompt: 'Tell me of a dog', options, ...more });
const chat = (more = {}) => client.chat({ model, messages: [{ role: 'user', content: 'Tell me of a dog' }], options, ...more });

function measured(a) {
  for (const f of ['total_duration', 'load_duration', 'prompt_eval_count', 'prompt_eval_duration', 'eval_count', 'eval_duration'])
    truth(Number.isInteger(a[f]) && a[f] >= 0, `${f}: ${a[f]}`);
  truth(a.done === true && ['stop', 'length'].includes(a.done_reason), `done_reason: ${a.done_reason}`);
  truth(!Number.isNaN(Date.parse(a.created_at)), `created_at: ${a.created_at}`);
}

await check('list', async () => {
  const { models } = await client.list(), one = models.find((m) => m.name === model || m.name === `${model}:latest`);
  truth(one, `no ${model} among ${models.map((m) => m.name)}`);
  truth(one.size > 0 && typeof one.digest === 'string' && one.details.format === 'gguf', 'size, digest or details');
});

await check('show', async () => {
  const s = await client.show({ model });
  truth(s.details.family && s.model_info && Object.keys(s.model_info instanceof Map ? Object.fromEntries(s.model_info) : s.model_info).length, 'details or model_info');
  truth(s.capabilities.includes('completion'), `capabilities: ${s.capabilities}`);
});

await check('ps', async () => {
  await generate();
  truth((await client.ps()).models.some((m) => m.name.startsWith(model)), 'the model is not listed');
});

await check('version', async () => truth(/^\d+\.\d+/.test((await client.version()).version), 'no version'));

await check('generate', async () => {
  const a = await generate();
  measured(a);
  truth(typeof a.response === 'string' && a.response.length && a.eval_count <= 16, a.response);
});

await check('generate stream says the same as the whole answer', async () => {
  const whole = await generate(), parts = await collect(await generate({ stream: true }));
  equal(parts.map((p) => p.response).join(''), whole.response, 'text');
  truth(parts.slice(0, -1).every((p) => p.done === false), 'done before the last');
  measured(parts.at(-1));
});

await check('generate raw leaves the template out', async () => {
  const raw = await generate({ raw: true }), templated = await generate();
  measured(raw);
  truth(raw.prompt_eval_count < templated.prompt_eval_count, `${raw.prompt_eval_count} tokens raw, ${templated.prompt_eval_count} with the template`);
});

await check('generate system', async () => {
  const more = await generate({ system: 'Be brief, and speak of cats.' });
  truth(more.prompt_eval_count > (await generate()).prompt_eval_count, 'the system text is not in the prompt');
});

await check('generate options', async () => {
  const limited = await generate({ options: { temperature: 0, num_predict: 3 } });
  truth(limited.eval_count <= 3, `${limited.eval_count} tokens`);
  const seeded = { options: { temperature: 1, seed: 5, num_predict: 12, top_k: 20, top_p: 0.9 } };
  equal((await generate(seeded)).response, (await generate(seeded)).response, 'the same seed');
  const whole = (await generate()).response, stop = whole.slice(3, 6);
  const stopped = await generate({ options: { ...options, stop: [stop] } });
  equal([stopped.response, stopped.done_reason], [whole.slice(0, whole.indexOf(stop)), 'stop'], 'stop');
});

await check('generate without a prompt loads the model', async () => {
  const a = await client.generate({ model, prompt: '' });
  equal([a.response, a.done, a.done_reason], ['', true, 'load']);
});

await check('chat', async () => {
  const a = await chat();
  measured(a);
  equal(a.message.role, 'assistant');
  truth(a.message.content.length, 'no content');
});

await check('chat stream says the same as the whole answer', async () => {
  const whole = await chat(), parts = await collect(await chat({ stream: true }));
  equal(parts.map((p) => p.message.content).join(''), whole.message.content, 'text');
  measured(parts.at(-1));
});

await check('abort mid-stream, and the server goes on', async () => {
  const stream = await chat({ stream: true, options: { temperature: 0, num_predict: 200 } });
  let n = 0;
  try {
    for await (const _ of stream) if (++n === 3) stream.abort();
  } catch (e) {
    equal(e.name, 'AbortError');
  }
  truth(n >= 3, `${n} parts`);
  truth((await chat()).message.content.length, 'no answer after it');
});

await check('unknown model', async () => {
  const e = await refused(chat({ model: 'no-such-model' }), Error, { status_code: 404 });
  truth(e.message.includes('no-such-model'), e.message);
});

await check('wrong key', () => refused(new Ollama({ host: base, headers: { Authorization: 'Bearer wrong' } }).list(), Error, { status_code: 401 }));

await check('an unknown option is refused by name', async () => {
  const e = await refused(generate({ options: { ...options, no_such_option: 1 } }), Error, { status_code: 400 });
  truth(e.message.includes('no_such_option'), e.message);
});

await check('a context beyond the plan is refused', () => refused(generate({ options: { ...options, num_ctx: 100000000 } }), Error, { status_code: 400 }));

finish();
