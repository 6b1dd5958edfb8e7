// A pool worker in Node: started once, it takes jobs as lines of JSON on standard input.
//
//   handlers:
//     greet: {pool: {run: [node, examples/pool.mjs], size: 2, concurrency: 20}}
//
// Several jobs may be in it at the same time, since Node waits for many things at once.
import { createInterface } from "node:readline";

class Bury extends Error {} // thrown for a job that no other attempt can save

const say = (job, what) => process.stdout.write(JSON.stringify({ id: job.id, ...what }) + "\n");

async function greet(job) {
  const { name } = job.payload ?? {};
  if (typeof name !== "string") throw new Bury("the payload has no `name`");
  console.error(`greeting ${name}`); // standard error goes to the log
  say(job, { progress: { percent: 50, message: "thinking of something nice" } });
  await new Promise((resolve) => setTimeout(resolve, 10));
  return { text: `hello, ${name}`, attempt: job.attempt };
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  greet(job)
    .then((result) => say(job, { result }))
    .catch((error) => say(job, { error: error.message, retry: !(error instanceof Bury) }));
}
