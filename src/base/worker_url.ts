/**
 * Finds the entry point of a Worker, in the source tree and in the built bundle alike.
 *
 * L0, pure; called by whoever starts Workers. In the source tree this module is `src/base/worker_url.ts` and the
 * Workers are `src/machine/<role>_worker.ts`; in a bundle it is part of `main.js` (or of a chunk beside it) and the
 * Workers are `<role>_worker.js` in the same directory. `scripts/build.ts` makes that layout.
 *
 * @module
 */

/** The Workers that the build knows: `src/machine/<role>_worker.ts` is bundled as `<role>_worker.js`. */
export const WORKER_ROLES = ["vcpu", "io"] as const;

/** A Worker's role, the first part of its entry point's file name. */
export type WorkerRole = typeof WORKER_ROLES[number];

/**
 * The URL to hand to `new Worker(…, { type: "module" })`.
 *
 * @param role which Worker; an entry of {@link WORKER_ROLES}
 * @param moduleUrl URL of the module that holds this code; only tests pass it
 * @returns a `file:` URL (of a `.ts` file in the source tree, of a `.js` file in a bundle); never throws
 */
export function workerUrl(role: WorkerRole, moduleUrl: string = import.meta.url): URL {
  const inSourceTree = new URL(moduleUrl).pathname.endsWith(".ts");
  return new URL(inSourceTree ? `../machine/${role}_worker.ts` : `./${role}_worker.js`, moduleUrl);
}
