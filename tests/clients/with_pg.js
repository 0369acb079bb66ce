// node-postgres at its ordinary work: HOST PORT USER PASSWORD.
'use strict';
const assert = require('node:assert');
const { Client, Pool } = require('pg');

const [host, port, user, password] = process.argv.slice(2);
const where = { host, port: Number(port), user, password: password || undefined, database: 'postgres', connectionTimeoutMillis: 10000 };

async function connected(more = {}) {
  const client = new Client({ ...where, ...more });
  await client.connect();
  return client;
}

async function preparedStatements() {
  const client = await connected();
  await client.query('DROP TABLE IF EXISTS node_rows');
  await client.query('CREATE TABLE node_rows (a int PRIMARY KEY, b text, c jsonb, d bytea)');
  for (let number = 0; number < 20; number++) {
    await client.query({ name: 'insert row', text: 'INSERT INTO node_rows VALUES ($1, $2, $3, $4)', values: [number, `row ${number}`, { number }, Buffer.from([0, 255])] });
  }
  for (let number = 0; number < 20; number++) {
    const { rows } = await client.query({ name: 'one row', text: 'SELECT * FROM node_rows WHERE a = $1', values: [number] });
    assert.deepStrictEqual(rows, [{ a: number, b: `row ${number}`, c: { number }, d: Buffer.from([0, 255]) }]);
  }
  const several = await client.query('SELECT 1 AS one; SELECT 2 AS two');
  assert.deepStrictEqual(several.map((result) => result.rows[0]), [{ one: 1 }, { two: 2 }]);
  await client.end();
}

async function transactionsAndErrors() {
  const client = await connected();
  await client.query('BEGIN');
  await client.query('INSERT INTO node_rows (a) VALUES (100)');
  await assert.rejects(client.query('INSERT INTO node_rows (a) VALUES (100)'), { code: '23505' });
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  await client.query('ROLLBACK');
  await assert.rejects(client.query('SELECT $1::int / 0', [1]), { code: '22012' });
  assert.strictEqual((await client.query('SELECT count(*)::int AS n FROM node_rows')).rows[0].n, 20);
  await client.end();
}

async function notifications() {
  const [listener, speaker] = [await connected(), await connected()];
  const heard = new Promise((resolve) => listener.once('notification', resolve));
  await listener.query('LISTEN node_news');
  await speaker.query("NOTIFY node_news, 'hello'");
  assert.strictEqual((await heard).payload, 'hello');
  const notice = new Promise((resolve) => speaker.once('notice', resolve));
  await speaker.query("DO $$ BEGIN RAISE NOTICE 'look'; END $$");
  assert.strictEqual((await notice).message, 'look');
  await Promise.all([listener.end(), speaker.end()]);
}

async function pool() {
  const pool = new Pool({ ...where, max: 8, application_name: 'node pool' });
  await Promise.all(Array.from({ length: 400 }, async (_, number) => {
    const { rows } = await pool.query({ name: `n${number % 7}`, text: `SELECT $1::int AS n, ${number % 7} AS kind`, values: [number] });
    assert.deepStrictEqual(rows, [{ n: number, kind: number % 7 }]);
  }));
  await Promise.all(Array.from({ length: 20 }, async (_, number) => {
    const client = await pool.connect();
    try {
      await client.query('BEGIN');
      await client.query('INSERT INTO node_rows (a) VALUES ($1)', [1000 + number]);
      await client.query(number % 2 ? 'COMMIT' : 'ROLLBACK');
    } finally {
      client.release();
    }
  }));
  assert.strictEqual((await pool.query('SELECT count(*)::int AS n FROM node_rows WHERE a >= 1000')).rows[0].n, 10);
  await pool.end();
}

async function statementTimeout() {
  const client = await connected({ statement_timeout: 300 });
  await assert.rejects(client.query('SELECT pg_sleep(60)'), { code: '57014' });
  assert.strictEqual((await client.query('SELECT 1 AS one')).rows[0].one, 1);
  await client.end();
}

(async () => {
  await preparedStatements();
  await transactionsAndErrors();
  await notifications();
  await pool();
  await statementTimeout();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
