// node-postgres (pg), with pg-cursor and pg-copy-streams.
import { once } from 'node:events';
import pg from 'pg';
import Cursor from 'pg-cursor';
import copyStreams from 'pg-copy-streams';
import { base, ca, check, equal, finish, raises, rightOrRefused, spread } from './checks.mjs';

async function connect(options = {}) {
  const client = new pg.Client({ ssl: false, connectionTimeoutMillis: 10_000, ...options });
  client.on('error', () => {}); // a lost connection shows in the next query
  await client.connect();
  return client;
}

let db;
const rows = async (sql, values) => (await db.query({ text: sql, values, rowMode: 'array' })).rows;

await check('connect plain', async () => {
  db = await connect();
  equal(await rows('select 1'), [[1]]);
});

await check('connect TLS', async () => {
  const secure = await connect({ ssl: { ca } });
  equal(secure.connection.stream.encrypted, true);
  equal((await secure.query('select 1 as one')).rows, [{ one: 1 }]);
  await secure.end();
});

await check('crud by key', async () => {
  for (let id = base; id < base + 20; id++) {
    await rows('delete from items where id = $1', [id]);
    equal((await db.query('insert into items (id, owner_id, name, qty) values ($1, $2, $3, $4)', [id, 1, `n ${id}`, 5])).rowCount, 1);
    equal(await rows('select name, qty from items where id = $1', [id]), [[`n ${id}`, 5]]);
    equal((await db.query('update items set qty = qty + 1 where id = $1', [id])).rowCount, 1);
    equal(await rows(`delete from items where id = ${id} returning qty`), [[6]]);
  }
});

await check('values', async () => {
  const long = 'é漢'.repeat(200_000);
  await rows('insert into items values ($1, $2, $3, $4, $5)', [base, null, long, null, { a: [1, null] }]);
  equal(await rows('select owner_id, name, data from items where id = $1', [base]), [[null, long, { a: [1, null] }]]);
});

await check('prepared statements', async () => {
  for (let id = base + 100; id < base + 120; id++) {
    await db.query({ name: 'del', text: 'delete from items where id = $1', values: [id] });
    await db.query({ name: 'ins', text: 'insert into items (id, qty) values ($1, $2)', values: [id, id % 1000] });
    equal((await db.query({ name: 'sel', text: 'select qty from items where id = $1', values: [id] })).rows, [{ qty: id % 1000 }]);
  }
});

await check('batch', async () => {
  // node-postgres queues what is asked at once, and a string may hold several statements.
  const id = base + 100;
  const results = await Promise.all(Array.from({ length: 20 }, (_, i) => rows('select $1::int + qty - qty from items where id = $2', [i, id])));
  equal(results.map((r) => r[0][0]), Array.from({ length: 20 }, (_, i) => i));
  const several = await db.query(`update items set qty = 1 where id = ${id}; select qty from items where id = ${id}`);
  equal(several.map((r) => r.command), ['UPDATE', 'SELECT']);
});

await check('transaction commit', async () => {
  await rows('begin');
  await rows('update items set qty = 5 where id = $1', [base + 100]);
  await rows('savepoint s');
  await rows('update items set qty = 6 where id = $1', [base + 100]);
  await rows('rollback to s');
  await rows('commit');
  equal(await rows('select qty from items where id = $1', [base + 100]), [[5]]);
});

await check('transaction rollback', async () => {
  await rows('begin');
  await rows('update items set qty = 9 where id = $1', [base + 100]);
  await rows('rollback');
  equal(await rows('select qty from items where id = $1', [base + 100]), [[5]]);
});

await check('cursor', async () => {
  const cursor = db.query(new Cursor('select generate_series(1, 250) as n'));
  let count = 0;
  for (let part = await cursor.read(60); part.length; part = await cursor.read(60)) count += part.length;
  await cursor.close();
  equal(count, 250);
});

await check('copy', async () => {
  await rows('delete from imports where id between $1 and $2', [base, base + 999]);
  const into = db.query(copyStreams.from('copy imports (id, name) from stdin'));
  for (let i = 0; i < 1000; i++) into.write(`${base + i}\trow ${i}\n`);
  into.end();
  await once(into, 'finish');
  const out = db.query(copyStreams.to(`copy (select * from imports where id between ${base} and ${base + 999} order by id) to stdout`));
  let text = '';
  for await (const chunk of out) text += chunk;
  equal(text.split('\n').length, 1001);
  equal(text.startsWith(`${base}\trow 0\n`), true);
});

await check('errors', async () => {
  await raises('23505', () => rows('insert into items (id) values ($1)', [base + 100]));
  await raises('42601', () => rows('selekt 1'));
  await raises('22012', () => rows('select 1/0'));
  await raises('22P02', () => rows('select qty from items where id = $1', ['x']));
  equal(await rows('select 1'), [[1]]);
});

await check('failed transaction', async () => {
  await rows('begin');
  await raises('22012', () => rows('select 1/0'));
  await raises('25P02', () => rows('select 1'));
  await rows('rollback');
  equal(await rows('select 1'), [[1]]);
});

await check('several shards', async () => {
  for (const id of spread) {
    await rows('delete from items where id = $1', [id]);
    await rows('insert into items (id, qty) values ($1, 0)', [id]);
  }
  await rightOrRefused(async () => {
    await rows('begin');
    try {
      for (const id of spread) await rows('update items set qty = 1 where id = $1', [id]);
      await rows('commit');
    } catch (error) {
      await rows('rollback');
      throw error;
    }
  }, async (id) => (await rows('select qty from items where id = $1', [id]))[0][0]);
});

await check('cancel', async () => {
  const sleeping = raises('57014', () => rows('select pg_sleep(30)'));
  await new Promise((resolve) => setTimeout(resolve, 500));
  const canceller = new pg.Client({ ssl: false });
  canceller.connection.connect(Number(process.env.PGPORT), process.env.PGHOST);
  canceller.connection.on('connect', () => canceller.connection.cancel(db.processID, db.secretKey));
  await sleeping;
  equal(await rows('select 1'), [[1]]);
});

await check('pool', async () => {
  const pool = new pg.Pool({ max: 5, ssl: false });
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => pool.query('select $1::int as i', [i])));
  equal(answers.map((a) => a.rows[0].i), Array.from({ length: 50 }, (_, i) => i));
  await pool.end();
});

await check('listen and notify', async () => {
  const heard = once(db, 'notification');
  await rows('listen driver_news');
  const other = await connect();
  await other.query("select pg_notify('driver_news', 'hello')");
  equal((await heard)[0].payload, 'hello');
  await rows('unlisten driver_news');
  await other.end();
});

await check('close', () => db.end());
finish();
