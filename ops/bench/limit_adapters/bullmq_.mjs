// BullMQ on Node: setGlobalConcurrency(10); a limit for each group is in its paid edition only.
import { Queue, Worker } from "bullmq";
import { writeSync, openSync } from "node:fs";

const [command, url, kind, number] = process.argv.slice(2);
const at = new URL(url);
const connection = { host: at.hostname, port: Number(at.port || 6379), maxRetriesPerRequest: null };

if (kind === "key") {
  console.error("–");
  process.exit(1);
}
if (command === "produce") {
  const queue = new Queue("limits", { connection });
  await queue.setGlobalConcurrency(10);
  const jobs = Array.from({ length: Number(number) }, (_, n) => ({ name: "t", data: { stamp: n } }));
  for (let n = 0; n < jobs.length; n += 500) await queue.addBulk(jobs.slice(n, n + 500));
  process.exit(0);
}
const file = openSync(`${process.env.STREAMQ_BENCH_RECORD}/${process.pid}.marks`, "w+");
let size = 0;
new Worker("limits", async (job) => {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(job.data.stamp), 0);
  bytes.writeBigInt64LE(process.hrtime.bigint(), 8);
  writeSync(file, bytes, 0, 16, 16 * size++);
  await new Promise((done) => setTimeout(done, 5));
}, { connection, concurrency: 100, removeOnComplete: { count: 0 } });
process.on("SIGTERM", () => process.exit(0));
