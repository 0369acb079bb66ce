// ioredis at its ordinary work: HOST PORT.
'use strict';
const assert = require('node:assert');
const Redis = require('ioredis');

const [host, port] = process.argv.slice(2);
const connected = () => new Redis({ host, port: Number(port), retryStrategy: null, maxRetriesPerRequest: 0 });

async function ordinary() {
  const client = connected();
  await client.del('io:l', 'io:b');
  assert.strictEqual(await client.set('io:a', 'x', 'PX', 100000), 'OK');
  assert.deepStrictEqual(await client.getBuffer('io:a'), Buffer.from('x'));
  const pipeline = client.pipeline();
  for (let number = 0; number < 200; number++) pipeline.rpush('io:l', number).lrange('io:l', -1, -1);
  const answers = await pipeline.exec();
  answers.forEach(([error, answer], at) => {
    assert.ifError(error);
    assert.deepStrictEqual(answer, at % 2 ? [String((at - 1) / 2)] : at / 2 + 1);
  });
  assert.deepStrictEqual(await client.multi().set('{io}a', '1').incr('{io}a').exec(), [[null, 'OK'], [null, 2]]);
  client.defineCommand('appended', { numberOfKeys: 1, lua: "return redis.call('APPEND', KEYS[1], ARGV[1])" });
  assert.strictEqual(await client.appended('io:b', 'abc'), 3);
  assert.strictEqual(await client.appended('io:b', 'd'), 4);
  let found = 0;
  await client.mset(...Array.from({ length: 100 }, (_, number) => [`io:s${number}`, number]).flat());
  for await (const keys of client.scanStream({ match: 'io:s*', count: 10 })) found += keys.length;
  assert.strictEqual(found, 100);
  await client.quit();
}

async function messages() {
  const subscriber = connected();
  const publisher = connected();
  await subscriber.subscribe('io:channel');
  const arrives = new Promise((resolve) => subscriber.once('message', (channel, text) => resolve([channel, text])));
  await publisher.publish('io:channel', 'hello');
  assert.deepStrictEqual(await arrives, ['io:channel', 'hello']);
  await publisher.del('io:queue');
  const waiter = connected();
  const waits = waiter.brpop('io:queue', 10);
  await publisher.lpush('io:queue', 'job');
  assert.deepStrictEqual(await waits, ['io:queue', 'job']);
  await Promise.all([subscriber, publisher, waiter].map((one) => one.quit()));
}

(async () => {
  await ordinary();
  await messages();
})().catch((error) => { console.error(error); process.exit(1); });
