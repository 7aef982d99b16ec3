// postgres.js: prepares every statement, pipelines by itself.
import postgres from 'postgres';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { base, ca, check, equal, finish, raises, rightOrRefused, spread } from './checks.mjs';

const options = {
  host: process.env.PGHOST, port: Number(process.env.PGPORT), database: process.env.PGDATABASE,
  username: process.env.PGUSER, password: process.env.PGPASSWORD, max: 3, connect_timeout: 10, onnotice: () => {},
};
const sql = postgres({ ...options, ssl: false });

await check('connect plain', async () => {
  equal([...(await sql`select 1 as one`)], [{ one: 1 }]);
});

await check('connect TLS', async () => {
  const secure = postgres({ ...options, max: 1, ssl: { ca, rejectUnauthorized: true } });
  equal([...(await secure`select 1 as one`)], [{ one: 1 }]);
  await secure.end();
});

await check('crud by key', async () => {
  for (let id = base; id < base + 20; id++) {
    await sql`delete from items where id = ${id}`;
    await sql`insert into items ${sql({ id, owner_id: 1, name: `n ${id}`, qty: 5 })}`;
    equal([...(await sql`select name, qty from items where id = ${id}`)], [{ name: `n ${id}`, qty: 5 }]);
    equal((await sql`update items set qty = qty + 1 where id = ${id}`).count, 1);
    equal([...(await sql`delete from items where id = ${id} returning qty`)], [{ qty: 6 }]);
  }
});

await check('values', async () => {
  const long = 'é漢'.repeat(200_000);
  await sql`insert into items values (${base}, ${null}, ${long}, ${null}, ${sql.json({ a: [1, null] })})`;
  equal([...(await sql`select owner_id, name, data from items where id = ${base}`)], [{ owner_id: null, name: long, data: { a: [1, null] } }]);
});

await check('prepared statements', async () => {
  await sql`delete from items where id = ${base + 100}`;
  await sql`insert into items (id, qty) values (${base + 100}, 1)`;
  for (let i = 0; i < 30; i++) equal((await sql`select qty from items where id = ${base + 100 + i}`).length, i === 0 ? 1 : 0);
});

await check('pipeline', async () => {
  const one = await sql.reserve(); // one connection: the statements leave in one flight
  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => one`select ${i}::int + qty - qty as i from items where id = ${base + 100}`));
  equal(answers.map((a) => a[0].i), Array.from({ length: 30 }, (_, i) => i));
  one.release();
});

await check('simple protocol', async () => {
  const results = await sql.unsafe(`update items set qty = 2 where id = ${base + 100}; select qty from items where id = ${base + 100}`).simple();
  equal(results.map((r) => r.command), ['UPDATE', 'SELECT']);
});

await check('transaction commit', async () => {
  await sql.begin(async (tx) => {
    await tx`update items set qty = 7 where id = ${base + 100}`;
    await tx.savepoint((sp) => sp`update items set qty = 8 where id = ${base + 100}`);
  });
  equal((await sql`select qty from items where id = ${base + 100}`)[0].qty, 8);
});

await check('transaction rollback', async () => {
  await sql.begin(async (tx) => {
    await tx`update items set qty = 9 where id = ${base + 100}`;
    throw new Error('back');
  }).catch((error) => equal(error.message, 'back'));
  equal((await sql`select qty from items where id = ${base + 100}`)[0].qty, 8);
});

await check('cursor', async () => {
  let count = 0;
  await sql`select generate_series(1, 250)`.cursor(60, (rows) => { count += rows.length; });
  equal(count, 250);
});

await check('copy', async () => {
  await sql`delete from imports where id between ${base} and ${base + 999}`;
  const lines = Array.from({ length: 1000 }, (_, i) => `${base + i}\trow ${i}\n`);
  await pipeline(Readable.from(lines), await sql`copy imports (id, name) from stdin`.writable());
  let text = '';
  // Few rows: of more than its buffer holds, postgres.js pauses its socket and may never resume it, with PostgreSQL itself too.
  for await (const chunk of await sql.unsafe(`copy (select * from imports where id between ${base} and ${base + 499} order by id) to stdout`).readable()) text += chunk;
  equal(text, lines.slice(0, 500).join(''));
});

await check('errors', async () => {
  await raises('23505', () => sql`insert into items (id) values (${base + 100})`);
  await raises('42601', () => sql`selekt 1`);
  await raises('22012', () => sql`select 1/0`);
  equal([...(await sql`select 1 as one`)], [{ one: 1 }]);
});

await check('failed transaction', async () => {
  let second;
  await raises('22012', () => sql.begin(async (tx) => { // begin() itself rejects with the first error
    await raises('22012', () => tx.unsafe('select 1/0'));
    await tx`select 1`.catch((error) => { second = error.code; });
  }));
  equal(second, '25P02');
});

await check('several shards', async () => {
  for (const id of spread) {
    await sql`delete from items where id = ${id}`;
    await sql`insert into items (id, qty) values (${id}, 0)`;
  }
  await rightOrRefused(
    () => sql.begin(async (tx) => { for (const id of spread) await tx`update items set qty = 1 where id = ${id}`; }),
    async (id) => (await sql`select qty from items where id = ${id}`)[0].qty);
});

await check('cancel', async () => {
  const sleeping = sql`select pg_sleep(30)`;
  const refused = raises('57014', () => sleeping);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await sleeping.cancel();
  await refused;
  equal([...(await sql`select 1 as one`)], [{ one: 1 }]);
});

await check('close', () => sql.end({ timeout: 5 }));
finish();
