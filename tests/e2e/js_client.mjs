// SPDX-License-Identifier: Apache-2.0
// What test_js_client.py drives: one scenario a run, with @kubernetes/client-node from the folder that K3C_NODE_MODULES
// names. Throws (exit 1) at the first thing that is not as a client may expect.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PassThrough, Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.K3C_NODE_MODULES + '/');
const k8s = await import(pathToFileURL(require.resolve('@kubernetes/client-node')).href);

const kc = new k8s.KubeConfig();
kc.loadFromFile(process.env.KUBECONFIG);
const core = kc.makeApiClient(k8s.CoreV1Api);
const apps = kc.makeApiClient(k8s.AppsV1Api);
const any = k8s.KubernetesObjectApi.makeApiClient(kc);
const namespace = 'default';

const code = async (promise) => promise.then(() => 0, (e) => e.code ?? e.statusCode ?? e);
const configMap = (name, data, labels) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels }, data });

async function crud() {
  const made = await core.createNamespacedConfigMap({ namespace, body: configMap('js', { a: '1' }) });
  assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
  assert.equal(await code(core.createNamespacedConfigMap({ namespace, body: configMap('js') })), 409);
  made.data.a = '2';
  const replaced = await core.replaceNamespacedConfigMap({ name: 'js', namespace, body: made });
  assert.equal(replaced.data.a, '2');
  assert.equal(await code(core.replaceNamespacedConfigMap({ name: 'js', namespace, body: made })), 409);
  assert.equal((await core.readNamespacedConfigMap({ name: 'js', namespace })).data.a, '2');
  for (const [strategy, body, want] of [
    [k8s.PatchStrategy.JsonPatch, [{ op: 'add', path: '/data/b', value: '3' }], { a: '2', b: '3' }],
    [k8s.PatchStrategy.MergePatch, { data: { b: null } }, { a: '2' }],
    [k8s.PatchStrategy.StrategicMergePatch, { data: { c: '4' } }, { a: '2', c: '4' }],
  ]) {
    const patched = await core.patchNamespacedConfigMap({ name: 'js', namespace, body }, k8s.setHeaderOptions('Content-Type', strategy));
    assert.deepEqual({ ...patched.data }, want);
  }
  const dry = await core.createNamespacedConfigMap({ namespace, body: configMap('dry'), dryRun: 'All' });
  assert.ok(dry.metadata.uid);
  assert.equal(await code(core.readNamespacedConfigMap({ name: 'dry', namespace })), 404);
  assert.equal((await core.deleteNamespacedConfigMap({ name: 'js', namespace })).status, 'Success');
  assert.equal(await code(core.readNamespacedConfigMap({ name: 'js', namespace })), 404);
  const deployments = await apps.listDeploymentForAllNamespaces();
  assert.ok(Array.isArray(deployments.items) && deployments.metadata.resourceVersion);
}

async function paging() {
  for (let i = 0; i < 23; i++)
    await core.createNamespacedConfigMap({ namespace, body: configMap(`page-${String(i).padStart(2, '0')}`, {}, { set: 'page' }) });
  const seen = [];
  let _continue, pages = 0;
  do {
    const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'set=page', limit: 5, _continue });
    seen.push(...page.items.map((c) => c.metadata.name));
    _continue = page.metadata._continue;
    pages++;
    assert.ok(page.items.length <= 5);
  } while (_continue);
  assert.equal(pages, 5);
  assert.deepEqual(seen, Array.from({ length: 23 }, (_, i) => `page-${String(i).padStart(2, '0')}`));
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'set=page' });
  assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'set=page' })).items.length, 0);
}

async function apply() {
  const config = (data) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data });
  const ssa = (manager, data, force) =>
    any.patch(config(data), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
  const made = await ssa('first', { a: '1', b: '1' });
  assert.deepEqual({ ...made.data }, { a: '1', b: '1' });
  assert.equal(made.metadata.managedFields[0].manager, 'first');
  assert.equal(made.metadata.managedFields[0].operation, 'Apply');
  let refused;
  await ssa('second', { a: '2' }).catch((e) => { refused = e; });
  assert.equal(refused.code, 409);
  assert.match(typeof refused.body === 'string' ? refused.body : JSON.stringify(refused.body),
    /Apply failed with 1 conflict: conflict with \\*"first\\*": \.data\.a/);
  assert.deepEqual({ ...(await ssa('second', { a: '2' }, true)).data }, { a: '2', b: '1' });
  // b is first's alone: left out, it goes; a is second's by now and stays
  assert.deepEqual({ ...(await ssa('first', {})).data }, { a: '2' });
}

async function exec() {
  const run = async (command, input, tty = false) => {
    const out = new PassThrough(), err = new PassThrough(), texts = ['', ''];
    out.on('data', (d) => { texts[0] += d; });
    err.on('data', (d) => { texts[1] += d; });
    const status = await new Promise((resolve, reject) => {
      new k8s.Exec(kc).exec(namespace, 'tool', 'main', command, out, err, input === undefined ? null : Readable.from([input]),
        tty, resolve).catch(reject);
    });
    return [status, ...texts];
  };
  let [status, out, err] = await run(['sh', '-c', 'echo out; echo err >&2']);
  assert.deepEqual([status.status, out, err], ['Success', 'out\n', 'err\n']);
  [status, out] = await run(['sh', '-c', 'exit 3']);
  assert.equal(status.status, 'Failure');
  assert.equal(status.details.causes[0].message, '3');
  [, out] = await run(['head', '-n', '1'], 'over standard input\n');
  assert.equal(out, 'over standard input\n');
  const log = await core.readNamespacedPodLog({ name: 'tool', namespace });
  assert.equal(log, 'started\n');
}

// Prints what the informer tells, one line an event, until standard input ends.
async function informer() {
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'seen=yes' });
  const watch = k8s.makeInformer(kc, `/api/v1/namespaces/${namespace}/configmaps`, list, 'seen=yes');
  const say = (what) => (o) => console.log(what, o.metadata.name, o.data?.v ?? '');
  for (const what of ['add', 'update', 'delete'])
    watch.on(what, say(what));
  // The client's own rule: after an error the user starts it again.
  watch.on('error', () => { setTimeout(() => watch.start().catch(() => {}), 200); });
  watch.on('connect', () => console.log('connect'));
  await watch.start();
  for await (const _ of process.stdin);
  console.log('cache', watch.list(namespace).map((o) => `${o.metadata.name}=${o.data?.v}`).sort().join(','));
  await watch.stop();
}

const scenarios = { crud, paging, apply, exec, informer };
await scenarios[process.argv[2]]();
process.exit(0);
