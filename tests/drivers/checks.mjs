// What the Node programs share.
import assert from 'node:assert/strict';
import fs from 'node:fs';

export const base = Number(process.env.DRIVER_BASE);
export const ca = fs.readFileSync(process.env.PGSSLROOTCERT, 'utf8');
export const equal = assert.deepEqual;
let failed = 0;

export async function check(name, action) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('no answer within 30 s')), 30_000); });
  try {
    await Promise.race([action(), late]);
    console.log(`ok - ${name}`);
  } catch (error) {
    failed = 1;
    console.log(`not ok - ${name}: ${String(error.message ?? error).replace(/\s+/g, ' ').slice(0, 300)}`);
  } finally {
    clearTimeout(timer);
  }
}

export async function raises(sqlstate, action) {
  let error;
  try {
    await action();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error, `no error instead of ${sqlstate}`);
  assert.equal(error.code, sqlstate, `${error.code} instead of ${sqlstate}: ${error.message}`);
}

// A write that sets qty to 1 for keys of several shards does all of it, or is refused with 0A000 and does nothing.
export const spread = Array.from({ length: 20 }, (_, i) => base + 400 + i);
export async function rightOrRefused(write, read) {
  let expected = 1;
  try {
    await write();
  } catch (error) {
    assert.equal(error.code, '0A000', `${error.code} instead of 0A000: ${error.message}`);
    expected = 0;
  }
  for (const id of spread) assert.equal(await read(id), expected, `key ${id}`);
}

// Ends the process: a connection left open by a failed check must not keep it.
export function finish() {
  process.exit(failed);
}
