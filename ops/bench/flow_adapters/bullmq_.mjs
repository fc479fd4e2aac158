// BullMQ on Node: FlowProducer; concurrency 100. The same commands as flow_common.py describes.
import { FlowProducer, Worker } from "bullmq";
import { writeSync, openSync } from "node:fs";

const [command, url, kind, number, width] = process.argv.slice(2);

function connection() {
  const at = new URL(url);
  return { host: at.hostname, port: Number(at.port || 6379), maxRetriesPerRequest: null };
}

function recorder() {
  const file = openSync(`${process.env.STREAMQ_BENCH_RECORD}/${process.pid}.marks`, "w+");
  return (stamp) => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigInt64LE(BigInt(stamp), 0);
    bytes.writeBigInt64LE(process.hrtime.bigint(), 8);
    writeSync(file, bytes);
  };
}

function work() {
  const mark = recorder();
  const handle = async (job) => {
    if (job.name === "number") return job.data.n;
    const values = Object.values(await job.getChildrenValues());
    if (job.name === "end") mark(job.data.stamp);
    return values[0];
  };
  new Worker("bench", handle, { connection: connection(), concurrency: 100 });
  process.on("SIGTERM", () => process.exit(0));
}

const job = (name, data, children) => ({ name, queueName: "bench", data, children });

function graph(size, stamp) {
  if (kind === "chain") return job("end", { stamp }, [job("before", {}, [job("number", { n: 1 })])]);
  return job("end", { stamp }, Array.from({ length: size }, (_, n) => job("number", { n })));
}

async function start(count, size) {
  const flows = new FlowProducer({ connection: connection() });
  await flows.add(graph(size, "1"));
  const stamp = String(process.hrtime.bigint());
  for (let n = 0; n < count; n += 100) {
    await flows.addBulk(Array.from({ length: Math.min(100, count - n) }, () => graph(size, stamp)));
  }
  process.exit(0);
}

if (command === "work") work();
else await start(Number(number), Number(width));
