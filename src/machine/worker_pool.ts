/**
 * Workers kept warm: starting an isolate costs 12–20 ms, so the first ones are made while nobody waits.
 *
 * L5, main isolate. A VM takes Workers from here; what it does not use stays for the next boot, what dies is not
 * returned: an isolate runs one VM's vCPU or I/O loop once.
 */
import { type WorkerRole, workerUrl } from "@vmm/base/worker_url.ts";
import type { PlatformDescription } from "./platform.ts";
import { WorkerPort } from "./worker_port.ts";

/** Most idle Workers kept per role: each costs 6 MiB. */
const MAX_IDLE = 1;

const idle = new Map<WorkerRole, Promise<WorkerPort>[]>();

async function start(role: WorkerRole): Promise<WorkerPort> {
  const worker = new Worker(workerUrl(role), { type: "module", name: role });
  const port = new WorkerPort(worker);
  await port.call("attach", port.mailbox.buffer);
  return port;
}

/** Starts one idle Worker of each role, unless there is one. Returns at once but for isolate creation (about 10 ms). */
export function prewarm(roles: readonly WorkerRole[] = ["io", "vcpu"]): void {
  for (const role of roles) {
    const waiting = idle.get(role) ?? [];
    if (waiting.length < MAX_IDLE) waiting.push(start(role));
    idle.set(role, waiting);
  }
}

/** Lets idle Workers run through what their start needs, over a platform nobody uses. */
export async function warmWorkers(platform: PlatformDescription): Promise<void> {
  const ports = await Promise.all([...idle.values()].flat());
  await Promise.all(ports.map((port) => port.call("warm", platform)));
}

/** A Worker that has loaded its code and answered. */
export function takeWorker(role: WorkerRole): Promise<WorkerPort> {
  return idle.get(role)?.shift() ?? start(role);
}

/** Gives back Workers that were taken and never started; more than are kept are ended. */
export function returnWorkers(role: WorkerRole, workers: readonly Promise<WorkerPort>[]): void {
  const waiting = idle.get(role) ?? [];
  for (const worker of workers) {
    if (waiting.length < MAX_IDLE) waiting.push(worker);
    else void worker.then(endWorker, () => {});
  }
  idle.set(role, waiting);
}

/** Ends a Worker that left its loop. */
export function endWorker(port: WorkerPort): void {
  port.worker.terminate();
}
