// The npm client `marathon-node`, unchanged, against the server named by the first argument.
// Its promises are Bluebird's and reject on every status that is not 2xx.
'use strict';

const assert = require('assert');
const marathon = require('marathon-node')(process.argv[2]);

// Longest wait for anything expected, in milliseconds. Generous: the machine may be slow.
const PATIENCE = 60000;
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

async function until(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert(Date.now() < end, `not seen within ${PATIENCE} ms: ${what}`);
    await pause();
  }
}

const settled = () =>
  until('the end of all deployments', async () => (await marathon.deployments.getList()).length === 0);

const running = (id, count) =>
  until(`${count} running tasks of ${id}`, async () => {
    const { tasks } = await marathon.app.getTasks(id);
    const good = tasks.filter((task) => task.state === 'TASK_RUNNING');
    return good.length === count && tasks.length === count && tasks;
  });

const refused = (status, call) =>
  assert.rejects(Promise.resolve(call), (error) => error.statusCode === status);

const APP = {
  id: '/js/naps',
  cmd: 'exec sleep 1000',
  cpus: 0.05,
  mem: 16,
  instances: 1,
  labels: { via: 'npm' },
  taskKillGracePeriodSeconds: 1,
};

const steps = {
  async misc() {
    // Asked for JSON, as this client always does, the word comes in quotes and is parsed.
    assert.strictEqual(await marathon.misc.ping(), 'pong');
    const info = await marathon.info.get();
    assert.strictEqual(info.name, 'marathon');
    assert.strictEqual((await marathon.leader.get()).leader, info.leader);
  },

  async app() {
    const made = await marathon.app.create(APP);
    assert.strictEqual(made.id, APP.id);
    assert.strictEqual(made.deployments.length, 1);
    await refused(409, marathon.app.create(APP));
    await refused(422, marathon.app.create({ ...APP, id: '/js/bad', instances: -1 }));
    await running(APP.id, 1);
    await settled();
    const { app } = await marathon.app.getOne(APP.id, { embed: 'app.tasks' });
    assert.deepStrictEqual(app.labels, APP.labels);
    assert.strictEqual(app.tasksRunning, 1);
    const changed = await marathon.app.update(APP.id, { env: { A: 'b' }, instances: 2 });
    assert(changed.deploymentId);
    await settled();
    await running(APP.id, 2);
    const { versions } = await marathon.app.getVersions(APP.id);
    assert.deepStrictEqual(versions, [changed.version, made.version]);
    const first = await marathon.app.getVersion(APP.id, made.version);
    assert.strictEqual(first.instances, 1);
    const before = (await running(APP.id, 2)).map((task) => task.id);
    await marathon.app.restart(APP.id, true);
    await settled();
    const after = (await running(APP.id, 2)).map((task) => task.id);
    assert(!after.some((id) => before.includes(id)), `${before} ${after}`);
    await refused(404, marathon.app.getOne('/js/nowhere'));
  },

  async apps() {
    const found = async (query) => (await marathon.apps.getList(query)).apps.map((app) => app.id);
    assert.deepStrictEqual(await found(), [APP.id]);
    assert.deepStrictEqual(await found({ label: 'via==npm', cmd: 'SLEEP', id: 'js' }), [APP.id]);
    assert.deepStrictEqual(await found({ label: 'via!=npm' }), []);
    // A list in a query comes as `embed[0]`, which Marathon does not read: one at a time.
    const [app] = (await marathon.apps.getList({ embed: 'apps.tasks' })).apps;
    assert.strictEqual(app.tasks.length, 2);
  },

  async tasks() {
    const [first, second] = await running(APP.id, 2);
    const all = await marathon.tasks.getList();
    assert.deepStrictEqual(all.tasks.map((task) => task.id).sort(), [first.id, second.id].sort());
    const killed = await marathon.app.killTask(APP.id, first.id);
    assert.strictEqual(killed.task.id, first.id);
    await until('another in its place', async () =>
      (await running(APP.id, 2)).every((task) => task.id !== first.id));
    const answer = await marathon.tasks.kill({ ids: [second.id] }, true);
    assert(answer.deploymentId);
    await settled();
    const [last] = await running(APP.id, 1);
    const { tasks } = await marathon.app.killTasks(APP.id, { host: last.host });
    assert.deepStrictEqual(tasks.map((task) => task.id), [last.id]);
    await until('yet another', async () => (await running(APP.id, 1))[0].id !== last.id);
  },

  async deployments() {
    // More than any machine has: this cannot end by itself.
    await marathon.app.update(APP.id, { mem: 100000000 });
    const [deployment] = await until('a deployment', async () => {
      const list = await marathon.deployments.getList();
      return list.length > 0 && list;
    });
    assert.deepStrictEqual(deployment.affectedApps, [APP.id]);
    await refused(409, marathon.app.update(APP.id, { instances: 3 }));
    const queue = await until('an item in the queue', async () => {
      const list = (await marathon.queue.get()).queue;
      return list.length > 0 && list;
    });
    assert.strictEqual(queue[0].app.id, APP.id);
    await marathon.queue.resetDelay(APP.id);
    assert((await marathon.deployments.destroy(deployment.id)).deploymentId);
    await settled();
    assert.strictEqual((await marathon.app.getOne(APP.id)).app.mem, APP.mem);
    await refused(404, marathon.deployments.destroy(deployment.id));
  },

  async groups() {
    const member = { ...APP, id: 'member' };
    const made = await marathon.groups.create({ id: '/js/set', apps: [member] });
    assert(made.deploymentId);
    await settled();
    await running('/js/set/member', 1);
    const group = await marathon.groups.getOne('/js/set');
    assert.deepStrictEqual(group.apps.map((app) => app.id), ['/js/set/member']);
    assert((await marathon.groups.getList()).groups.some((each) => each.id === '/js'));
    assert((await marathon.groups.update('/js/set', { scaleBy: 2 })).deploymentId);
    await settled();
    await running('/js/set/member', 2);
    assert((await marathon.groups.destroy('/js/set', true)).deploymentId);
    await settled();
    await refused(404, marathon.groups.getOne('/js/set'));
  },

  async events() {
    const heard = [];
    const types = ['deployment_success', 'status_update_event'];
    const source = marathon.events.createEventSource({ eventType: types });
    for (const type of types) {
      source.addEventListener(type, (event) => heard.push(JSON.parse(event.data)));
    }
    await new Promise((resolve, reject) => {
      source.onopen = resolve;
      source.onerror = reject;
    });
    const { deploymentId } = await marathon.app.restart(APP.id, true);
    await until('the end of the deployment as an event', async () =>
      heard.some((event) => event.eventType === 'deployment_success' && event.id === deploymentId));
    source.close();
    assert(heard.some((event) => event.taskStatus === 'TASK_RUNNING' && event.appId === APP.id));
    assert(heard.every((event) => types.includes(event.eventType)));
  },

  async destroy() {
    assert((await marathon.app.destroy(APP.id, true)).deploymentId);
    await settled();
    await refused(404, marathon.app.getOne(APP.id));
  },
};

(async () => {
  for (const [name, step] of Object.entries(steps)) {
    console.log(name);
    await step();
  }
})().catch((error) => {
  console.error(error.stack || error);
  process.exit(1);
});
