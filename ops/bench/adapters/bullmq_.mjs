// BullMQ on Node: concurrency 100; jobs are removed when complete unless results are kept.
// The same commands as common.py describes.
import { Queue, Worker } from "bullmq";
import { writeSync, openSync } from "node:fs";
import { createRequire } from "node:module";

const [command, url, how, number] = process.argv.slice(2);
const keep = process.env.RESULTS === "1";
const text = "x".repeat(72);
const delay = 1000;
const now = (delayed) => process.hrtime.bigint() + (delayed ? BigInt(delay) * 1000000n : 0n);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function connection() {
  const at = new URL(url);
  return { host: at.hostname, port: Number(at.port || 6379), maxRetriesPerRequest: null };
}

function recorder() {
  const file = openSync(`${process.env.STREAMQ_BENCH_RECORD}/${process.pid}.marks`, "w+");
  let marks = [];
  const flush = () => {
    if (!marks.length) return;
    const bytes = Buffer.alloc(marks.length * 16);
    marks.forEach(([stamp, at], n) => {
      bytes.writeBigInt64LE(stamp, n * 16);
      bytes.writeBigInt64LE(at, n * 16 + 8);
    });
    writeSync(file, bytes);
    marks = [];
  };
  setInterval(flush, 50);
  return (stamp) => marks.push([BigInt(stamp), process.hrtime.bigint()]);
}

function work() {
  const mark = recorder();
  const options = { connection: connection(), concurrency: 100 };
  if (!keep) options.removeOnComplete = { count: 0 };
  new Worker("bench", async (job) => {
    if (job.name === "nap") await sleep(50);
    mark(job.data.stamp);
  }, options);
  process.on("SIGTERM", () => process.exit(0));
}

async function produce(count) {
  const queue = new Queue("bench", { connection: connection() });
  await queue.waitUntilReady();
  const add = (kind, delayed) =>
    queue.add(kind, { stamp: String(now(delayed)), text }, delayed ? { delay } : {});
  const began = performance.now();
  if (how === "many") {
    for (let n = 0; n < count; n += 500) {
      const size = Math.min(500, count - n);
      await queue.addBulk(Array.from({ length: size }, () => ({ name: "noop", data: { stamp: String(now()), text } })));
    }
  } else if (how === "concurrent" || how === "naps") {
    for (let n = 0; n < count; n += 100) {
      await Promise.all(Array.from({ length: Math.min(100, count - n) }, () => add(how === "naps" ? "nap" : "noop")));
    }
  } else {
    for (let n = 0; n < count; n++) {
      await add("noop", how === "delayed");
      if (how !== "one") await sleep(10);
    }
  }
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }));
  process.exit(0);
}

if (command === "work") work();
else if (command === "version") {
  const require = createRequire(import.meta.url);
  console.log(`bullmq ${require("bullmq/package.json").version}, ioredis ${require("ioredis/package.json").version}`);
} else await produce(Number(number));
