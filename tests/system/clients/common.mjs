// What the client tests share. Arguments: BASE KEY MODEL. One line a claim, and the totals last.
export const [base, key, model] = process.argv.slice(2);
const only = (process.env.ONLY || '').split(',').filter(Boolean); // names of claims, for one at a time
let passed = 0, failed = 0;

if (!base || !key || !model) {
  console.error('usage: node SCRIPT.mjs BASE KEY MODEL');
  process.exit(2);
}

export async function check(name, claim) {
  if (only.length && !only.includes(name)) return;
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error('no end within 120 s')), 120000); });
  try {
    await Promise.race([claim(), late]);
    passed++;
    console.log(`ok ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAILED ${name}: ${String(e?.message ?? e).replaceAll('\n', ' ').slice(0, 400)}`);
  } finally {
    clearTimeout(timer);
  }
}

export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

export function equal(a, b, what = 'value') {
  const x = JSON.stringify(a), y = JSON.stringify(b);
  if (x !== y) throw new Error(`${what}: ${x} where ${y} is expected`);
}

export function truth(v, what) {
  if (!v) throw new Error(what);
}

// The error that a promise ends with; of that class and with those properties.
export async function refused(promise, type, properties = {}) {
  let error;
  try {
    await promise;
  } catch (e) {
    error = e;
  }
  truth(error, 'not refused');
  truth(error instanceof type, `refused with ${error?.constructor?.name} (${error?.message}) where ${type.name} is expected`);
  for (const [k, v] of Object.entries(properties)) equal(error[k], v, k);
  return error;
}

export const collect = async (stream) => {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
};
