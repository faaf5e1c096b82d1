// BullMQ, unmodified and without a hash tag in its prefix: node bullmq_app.js HOST PORT
import assert from "node:assert";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";

const [, , host, port] = process.argv;
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const NAMES = Array.from({ length: 8 }, (_, number) => `queue${number}`);
const opened = [];
const keep = (each) => (opened.push(each), each);
const failures = new Map();

async function work(job) {
  if (job.name === "third time") {
    const count = (failures.get(job.queueName) ?? 0) + 1;
    failures.set(job.queueName, count);
    if (count < 3) throw new Error("not yet");
    return count;
  }
  if (job.name === "parent") return Object.values(await job.getChildrenValues()).reduce((sum, value) => sum + value, 0);
  return job.data.one + job.data.other;
}

async function use(name) {
  const queue = keep(new Queue(name, { connection }));
  const events = keep(new QueueEvents(name, { connection })); // a blocking read of a stream
  keep(new Worker(name, work, { connection, concurrency: 4 }));
  queue.setMaxListeners(100); // one for each job that is waited for
  events.setMaxListeners(100);
  await events.waitUntilReady();
  const result = (job) => job.waitUntilFinished(events, 30000);
  const add = (jobName, data, options) => queue.add(jobName, data, options);

  const jobs = await Promise.all(Array.from({ length: 20 }, (_, number) => add("add", { one: number, other: number })));
  assert.deepEqual(await Promise.all(jobs.map(result)), jobs.map((_, number) => 2 * number));
  const bulk = await queue.addBulk(Array.from({ length: 10 }, (_, one) => ({ name: "add", data: { one, other: 1 } })));
  assert.deepEqual(await Promise.all(bulk.map(result)), bulk.map((_, number) => number + 1));
  assert.equal(await result(await add("third time", {}, { attempts: 3, backoff: { type: "fixed", delay: 50 } })), 3);
  assert.equal(await result(await add("add", { one: 1, other: 2 }, { delay: 200 })), 3);
  assert.equal(await result(await add("add", { one: 2, other: 2 }, { priority: 5 })), 4);
  await add("add", { one: 3, other: 3 }, { jobId: "once", delay: 3600000 });
  await add("add", { one: 3, other: 3 }, { jobId: "once", delay: 3600000 });
  assert.equal(await queue.getDelayedCount(), 1);
  await queue.upsertJobScheduler("often", { every: 100 }, { name: "add", data: { one: 4, other: 4 } });
  for (let repeats = 0; repeats < 2; ) repeats = (await queue.getCompleted(0, 100)).filter((job) => job.data.one === 4).length;
  await queue.removeJobScheduler("often");
  const flow = keep(new FlowProducer({ connection })); // a parent and its children, in one queue
  const children = [1, 2, 3].map((one) => ({ name: "add", queueName: name, data: { one, other: 0 } }));
  const { job } = await flow.add({ name: "parent", queueName: name, children });
  assert.equal(await result(job), 6);
  await queue.pause();
  assert.ok(await queue.isPaused());
  await queue.resume();
  assert.equal((await queue.getJobCounts("failed")).failed, 0);
  await queue.clean(0, 100, "completed");
}

try {
  await Promise.all(NAMES.map(use));
} catch (error) {
  console.error(error);
  process.exit(1);
} finally {
  await Promise.allSettled(opened.reverse().map((each) => each.close()));
}
console.log("done");
process.exit(0);
