/**
 * Workers kept warm: starting an isolate costs 12–20 ms, so they are made while nobody waits and used again.
 *
 * L5, main isolate. A VM takes Workers from here and gives them back when it stopped; a reboot finds all of them. Beyond
 * a moment only one per role is kept.
 */
import { type WorkerRole, workerUrl } from "@vmm/base/worker_url.ts";
import { WorkerPort } from "./worker_port.ts";

/** Idle Workers kept per role: each costs 6 MiB. */
const KEPT = 1;
/** How long more than those wait for the next VM: a reboot takes them at once. */
const SURPLUS_MS = 2000;
/** For a Worker to give back what it holds when it is ended. */
const END_PATIENCE_MS = 1_000;

const idle = new Map<WorkerRole, Promise<WorkerPort>[]>();

function waiting(role: WorkerRole): Promise<WorkerPort>[] {
  let list = idle.get(role);
  if (list === undefined) idle.set(role, list = []);
  return list;
}

function start(role: WorkerRole): Promise<WorkerPort> {
  const worker = new Worker(workerUrl(role), { type: "module", name: role });
  const port = new WorkerPort(worker);
  // One that cannot be loaded is the error of whoever waits for it, not of the process.
  const { onDeath } = port;
  port.onDeath = () => {};
  const started = port.call("attach", port.mailbox.buffer).then(() => {
    port.onDeath = onDeath;
    return port;
  });
  started.catch(() => {});
  return started;
}

/** Starts one idle Worker, unless there is one. Returns at once but for isolate creation (about 10 ms). */
export function prewarm(role: WorkerRole): void {
  if (waiting(role).length < KEPT) returnWorkers(role, [start(role)]);
}

/** A Worker that has loaded its code and answered. */
export function takeWorker(role: WorkerRole): Promise<WorkerPort> {
  return waiting(role).shift() ?? start(role);
}

/** Gives back Workers that are at rest: never started, or through `retireWorker`. */
export function returnWorkers(role: WorkerRole, workers: readonly Promise<WorkerPort>[]): void {
  const list = waiting(role);
  for (const worker of workers) {
    list.push(worker);
    const forget = () => {
      const at = list.indexOf(worker);
      if (at >= 0) list.splice(at, 1);
    };
    worker.then((port) => {
      port.onEvent = () => {};
      port.onDeath = forget;
    }, forget);
  }
  if (list.length > KEPT) Deno.unrefTimer(setTimeout(() => trim(list), SURPLUS_MS));
}

function trim(list: Promise<WorkerPort>[]): void {
  for (const worker of list.splice(KEPT)) void worker.then(endWorker, () => {});
}

/**
 * Gives back a Worker whose loop has ended. What it still had to say reaches its VM; then it forgets that VM. One that is
 * dead, or cannot be used again, is ended. Never throws.
 */
export async function retireWorker(role: WorkerRole, port: WorkerPort, reusable = true): Promise<void> {
  port.setKick(() => {});
  const rested = reusable && !port.isDead && await port.call("rest").then(() => true, () => false);
  if (rested) returnWorkers(role, [Promise.resolve(port)]);
  else await endWorker(port);
}

/** Ends a Worker that left its loop; it gives back what it holds first, if it answers. Never throws. */
export async function endWorker(port: WorkerPort): Promise<void> {
  if (!port.isDead) {
    const patience = Promise.withResolvers<void>();
    const timer = setTimeout(patience.resolve, END_PATIENCE_MS);
    await Promise.race([port.call("end").catch(() => {}), patience.promise]);
    clearTimeout(timer);
  }
  port.worker.terminate();
}

/** Ends all idle Workers; returns when they are gone. For a process that wants to go on without VMs. */
export async function endIdleWorkers(): Promise<void> {
  const workers = [...idle.values()].flatMap((list) => list.splice(0));
  await Promise.allSettled(workers.map((worker) => worker.then(endWorker)));
}
