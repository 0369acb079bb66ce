// node-redis at its ordinary work: HOST PORT.
'use strict';
const assert = require('node:assert');
const { createClient, WatchError } = require('redis');

const [host, port] = process.argv.slice(2);

async function connected(RESP) {
  const client = createClient({ RESP, socket: { host, port: Number(port), reconnectStrategy: false } });
  await client.connect();
  return client;
}

async function ordinary(version) {
  const client = await connected(version);
  const names = Array.from({ length: 100 }, (_, number) => `node:m${number}`);
  await client.del(['node:h', 'node:z', 'node:a']);
  assert.strictEqual(await client.set('node:a', 'ü', { EX: 100 }), 'OK');
  assert.strictEqual(await client.get('node:a'), 'ü');
  await client.mSet(names.map((name, number) => [name, String(number)]));
  assert.deepStrictEqual(await client.mGet(names), names.map((_, number) => String(number)));
  await client.hSet('node:h', { x: '1', y: '2' });
  assert.deepStrictEqual({ ...(await client.hGetAll('node:h')) }, { x: '1', y: '2' });
  await client.zAdd('node:z', [{ score: 1.5, value: 'a' }]);
  assert.strictEqual(await client.zScore('node:z', 'a'), 1.5);
  const found = [];
  for await (const keys of client.scanIterator({ MATCH: 'node:m*', COUNT: 20 })) found.push(...keys);
  assert.strictEqual(new Set(found).size, 100);
  // Sent at once, answered in order.
  const answers = await Promise.all(Array.from({ length: 300 }, () => client.incr('node:count')));
  answers.forEach((answer, at) => assert.strictEqual(answer, answers[0] + at));
  assert.strictEqual(await client.del(names), 100);
  await assert.rejects(client.incr('node:h'), /WRONGTYPE/);
  await client.close();
}

async function transactions() {
  const client = await connected(2);
  const answers = await client.multi().set('{node}a', '1').incr('{node}a').get('{node}a').exec();
  assert.deepStrictEqual(answers, ['OK', 2, '2']);
  const other = await connected(2);
  await client.watch('{node}a');
  await other.set('{node}a', '9');
  await assert.rejects(client.multi().incr('{node}a').exec(), WatchError);
  assert.strictEqual(await client.eval('return ARGV[1] .. KEYS[1]', { keys: ['k'], arguments: ['a'] }), 'ak');
  await other.close();
  await client.close();
}

async function waiting() {
  const client = await connected(3);
  const other = await connected(3);
  await client.del('node:queue');
  const waits = client.blPop('node:queue', 10);
  await other.lPush('node:queue', 'job');
  assert.deepStrictEqual({ ...(await waits) }, { key: 'node:queue', element: 'job' });
  const messages = [];
  let arrived;
  const all = new Promise((resolve) => { arrived = resolve; });
  const subscriber = await connected(2);
  const note = (message, channel) => { messages.push(`${channel}:${message}`); if (messages.length === 2) arrived(); };
  await subscriber.subscribe('node:channel', note);
  await subscriber.pSubscribe('node:p*', note);
  await other.publish('node:channel', 'one');
  await other.publish('node:p1', 'two');
  await all;
  assert.deepStrictEqual(messages, ['node:channel:one', 'node:p1:two']);
  await subscriber.unsubscribe('node:channel');
  await Promise.all([client, other, subscriber].map((one) => one.close()));
}

(async () => {
  await ordinary(2);
  await ordinary(3);
  await transactions();
  await waiting();
})().catch((error) => { console.error(error); process.exit(1); });
