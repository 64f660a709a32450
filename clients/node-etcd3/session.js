// etcd3 for Node.js: its builders, and a lease, lock, election and transactional memory of the client's own.
'use strict';

const { once } = require('node:events');
const { isDeepStrictEqual } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');
const lines = require('node:readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const {
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdLeaseInvalidError,
  EtcdLockFailedError,
  EtcdPermissionDeniedError,
  EtcdUserNotFoundError,
  Range,
} = require('etcd3');

const hosts = process.argv[2].split(',');
const client = new Etcd3({ hosts });
const [first, second] = hosts.map((host) => new Etcd3({ hosts: host }));

/** Says what was checked; ends the script if it is not so. */
function same(sentence, seen, expected) {
  if (!isDeepStrictEqual(seen, expected)) {
    console.error('NOT SO: %s\n  expected %o\n  seen     %o', sentence, expected, seen);
    process.exit(1);
  }
  console.log(`ok: ${sentence}`);
}

/** The same of what becomes so. What is thrown meanwhile counts as not yet. */
async function eventually(sentence, ask, expected, within = 20_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const seen = await ask().catch((error) => error);
    if (isDeepStrictEqual(seen, expected) || Date.now() > deadline) return same(sentence, seen, expected);
    await sleep(50);
  }
}

/** Says what was refused; ends the script if it was not, or otherwise. */
async function fails(sentence, kind, promise) {
  const error = await promise.then(() => 'no error', (thrown) => thrown);
  same(sentence, error instanceof kind ? kind : error, kind);
}

/** Asks the test that runs this script for an act. */
async function ask(request) {
  console.log(`! ${request}`);
  return (await lines.next()).value;
}

/** Waits for what an emitter says, for a while. */
const next = async (emitter, name) => (await once(emitter, name, { signal: AbortSignal.timeout(20_000) }))[0];

async function keys() {
  await client.put('js/a').value('1');
  same('Another node reads a put.', await second.get('js/a').string(), '1');
  same('A put returns the value before.', (await first.put('js/a').value('2').getPrevious()).value.toString(), '1');
  same('An absent key has no value.', await client.get('js/absent').string(), null);
  await client.put('js/b').value(Buffer.from([0, 255]));
  same('Bytes come back.', await second.get('js/b').buffer(), Buffer.from([0, 255]));
  await client.put('js/c').value(7);
  same('A number comes back.', await first.get('js/c').number(), 7);
  const sorted = await second.getAll().prefix('js/').sort('Key', 'Descend').limit(2).keys();
  same('A prefix is read in order, up to a limit.', sorted, ['js/c', 'js/b']);
  same('Keys are counted.', await client.getAll().prefix('js/').count(), 3);
  const { header } = await client.put('js/a').value('3');
  same('A revision is kept.', await second.get('js/a').revision(String(header.revision - 1)).string(), '2');
  same('A deletion tells its number.', (await first.delete().prefix('js/')).deleted, '3');
  same('A namespace is a prefix.', await client.namespace('ns/').put('k').value('v') && await client.get('ns/k').string(), 'v');
}

async function transactions() {
  const create = (value) =>
    client.if('txn/a', 'Create', '==', 0).then(client.put('txn/a').value(value)).else(client.get('txn/a')).commit();
  same('A transaction succeeds.', (await create('1')).succeeded, true);
  const { succeeded, responses } = await create('2');
  same('It fails with its other half.', [succeeded, responses[0].response_range.kvs[0].value.toString()], [false, '1']);
  const both = client.if('txn/a', 'Value', '==', '1').and('txn/a', 'Version', '<', 2);
  same('It has several comparisons.', (await both.then(client.delete().key('txn/a')).commit()).succeeded, true);
  await client.put('account').value(0);
  const one = async (tx) => tx.put('account').value((await tx.get('account').number()) + 1);
  const add = () => client.stm({ retries: 50 }).transact(one);
  await Promise.all([add(), add(), add(), add()]);
  same('Transactional memory loses nothing.', await client.get('account').number(), 4);
}

async function watches() {
  const watcher = await first.watch().prefix('watched/').withPreviousKV().create();
  const put = next(watcher, 'put');
  const { header } = await second.put('watched/a').value('1');
  same('An event has key and value.', [(await put).key.toString(), (await put).value.toString()], ['watched/a', '1']);
  const gone = once(watcher, 'delete');
  await second.delete().key('watched/a');
  same('A deletion has the value before it.', (await gone)[1].value.toString(), '1');
  await watcher.cancel();
  const past = await second.watch().key('watched/a').startRevision(header.revision).only('put').create();
  same('A watch begins in the past, and sees what it asked for.', (await next(past, 'put')).value.toString(), '1');
  await past.cancel();
}

async function leases() {
  const kept = client.lease(3);
  await kept.put('leased/kept').value('1');
  const unkept = client.lease(1, { autoKeepAlive: false });
  await unkept.put('leased/once').value('1');
  same('A lease is renewed.', (await kept.keepaliveOnce()).TTL, '3');
  await eventually('A lease that nobody renews ends.', () => second.get('leased/once').string(), null);
  await sleep(5000);
  same('A lease that is renewed does not.', await second.get('leased/kept').string(), '1');
  await kept.revoke();
  same('A revoked lease takes its keys along.', await second.get('leased/kept').string(), null);
  await fails('An absent lease takes no key.', EtcdLeaseInvalidError, client.put('leased/no').value('1').lease('4711').exec());
}

async function locks() {
  const lock = await first.lock('gate').ttl(20).acquire();
  await fails('A lock is acquired once.', EtcdLockFailedError, second.lock('gate').acquire());
  await lock.release();
  same('It is free when it is released.', await second.lock('gate').do(() => second.get('gate').exists()), true);
  same('It is free when its work is done.', await client.get('gate').exists(), false);
}

async function elections() {
  const a = first.election('post', 10).campaign('a');
  await a.wait();
  const election = client.election('post', 10);
  same('The first to campaign leads.', await election.leader(), 'a');
  const b = second.election('post', 10).campaign('b');
  const isElected = b.wait();
  await next(b, '_isWaiting');
  const observer = await election.observe();
  await a.proclaim('a2');
  await eventually('Who looks on sees what the leader says.', async () => observer.leader(), 'a2');
  await a.resign();
  await isElected;
  await eventually('Who waited leads when the leader resigns.', async () => observer.leader(), 'b');
  await observer.cancel();
  await b.resign();
}

async function users() {
  const role = await client.role('js').create();
  await role.grant({ permission: 'Readwrite', range: Range.prefix('js/') });
  same('A role tells what it permits.', (await role.permissions()).map(({ permission }) => permission), ['Readwrite']);
  const anna = await client.user('anna').create('annapw');
  await anna.addRole('js');
  same('A user tells its roles.', (await anna.roles()).map(({ name }) => name), ['js']);
  await (await client.user('root').create('rootpw')).addRole('root');
  await fails('An absent user has no roles.', EtcdUserNotFoundError, client.user('nobody').roles());
  same('Users are listed.', (await client.getUsers()).map(({ name }) => name), ['anna', 'root']);
  await client.auth.authEnable();
  const as = (username, password, of = hosts) => new Etcd3({ hosts: of, auth: { username, password } });
  await fails('A wrong password is refused.', EtcdAuthenticationFailedError, as('anna', 'wrong').get('js/a').string());
  const [asAnna, asRoot] = [as('anna', 'annapw'), as('root', 'rootpw')];
  await asAnna.put('js/a').value('1');
  same('A user reads what it may, from any node.', await as('anna', 'annapw', hosts[1]).get('js/a').string(), '1');
  await fails('It does not read what it may not.', EtcdPermissionDeniedError, asAnna.get('other').string());
  await fails('Nor does it write that.', EtcdPermissionDeniedError, asAnna.put('other').value('1').exec());
  const watcher = await asAnna.watch().prefix('js/').create();
  const put = next(watcher, 'put');
  await asRoot.put('js/b').value('by root');
  same('It watches what it may.', (await put).value.toString(), 'by root');
  await watcher.cancel();
  await asRoot.user('anna').setPassword('other');
  same('It logs in anew with another password.', await as('anna', 'other').get('js/a').string(), '1');
  await asRoot.role('js').delete();
  await fails('What is permitted no more is refused.', EtcdPermissionDeniedError, as('anna', 'other').get('js/a').string());
  await asRoot.auth.authDisable();
  same('Then nobody is asked any more.', await client.get('js/a').string(), '1');
}

async function leaderDies() {
  const lease = client.lease(10);
  await lease.put('leased/through').value('1');
  const watcher = await client.watch().prefix('through/').create();
  const seen = [];
  watcher.on('put', (kv) => seen.push(kv.value.toString()));
  await client.put('through/a').value('before');
  await ask('kill leader');
  await eventually('It writes without the leader.', async () => Boolean(await client.put('through/b').value('after')), true);
  await eventually('Its watch goes on, and misses nothing.', async () => [seen[0], seen.at(-1)], ['before', 'after']);
  await sleep(12_000);
  await eventually('Its lease is renewed as before.', () => client.get('leased/through').string(), '1');
}

async function main() {
  for (const part of [keys, transactions, watches, leases, locks, elections, users, leaderDies]) await part();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
