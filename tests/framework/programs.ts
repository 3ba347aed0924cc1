/**
 * The programs under test, and tests that need more than a bare machine.
 *
 * Test framework. Environment: NEPHOS_BIN names the built program (else `dist/nephos`), REFERENCE_VMM the original.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the checkout. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Which program a test starts. `cloud-hypervisor` and `ch-remote` are ours, called by these names. */
export type ProgramName = "nephos" | "cloud-hypervisor" | "ch-remote" | "reference" | "reference-remote";

/** Path of a program; the reference's may be undefined. Does not look whether it is there. */
export function programPath(name: ProgramName): string | undefined {
  const built = Deno.env.get("NEPHOS_BIN") ?? join(ROOT, "dist", "nephos");
  const reference = Deno.env.get("REFERENCE_VMM");
  switch (name) {
    case "nephos":
      return built;
    case "cloud-hypervisor":
    case "ch-remote":
      return join(dirname(built), name);
    case "reference":
      return reference;
    case "reference-remote":
      return reference && join(dirname(reference), "ch-remote");
  }
}

/** What a test cannot do without. */
export interface Needs {
  /** `/dev/kvm`, usable. */
  kvm?: boolean;
  root?: boolean;
  /** The built program. */
  binary?: boolean;
  /** The original, named by REFERENCE_VMM. */
  reference?: boolean;
  /** A Linux guest, half a minute and more where ring 0 is emulated: not where NEPHOS_LINUX_TESTS is 0. */
  linux?: boolean;
  /** A Linux guest that takes minutes there: only where NEPHOS_LINUX_TESTS is "all". */
  slowLinux?: boolean;
  /** Host commands; those that are not in PATH by their path. */
  commands?: string[];
}

/** Why a test with these needs cannot run here, or undefined if it can. */
export function missing(needs: Needs): string | undefined {
  if (needs.kvm && !canOpen("/dev/kvm")) return "no usable /dev/kvm";
  if (needs.linux && Deno.env.get("NEPHOS_LINUX_TESTS") === "0") return "NEPHOS_LINUX_TESTS is 0";
  if (needs.slowLinux && Deno.env.get("NEPHOS_LINUX_TESTS") !== "all") {
    return 'NEPHOS_LINUX_TESTS is not "all"';
  }
  if (needs.root && Deno.uid() !== 0) return "not root";
  if (needs.binary && !exists(programPath("nephos")!)) return "Nephos is not built";
  if (needs.reference) {
    const path = programPath("reference");
    if (!path) return "REFERENCE_VMM is not set";
    if (!exists(path)) return `REFERENCE_VMM names no file: ${path}`;
  }
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
  const found = (name: string) =>
    name.startsWith("/") ? exists(name) : folders.some((folder) => exists(join(folder, name)));
  const command = needs.commands?.find((name) => !found(name));
  return command && `no command ${command}`;
}

/**
 * A test that is skipped, with the reason in its name, where its needs are not met.
 * Resource sanitizers are on: the body must clean up, best with `await using`.
 */
export function testWith(needs: Needs, name: string, body: () => Promise<void>): void {
  const reason = missing(needs);
  Deno.test({ name: reason ? `${name} (skipped: ${reason})` : name, ignore: reason !== undefined, fn: body });
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function canOpen(path: string): boolean {
  try {
    Deno.openSync(path, { read: true, write: true }).close();
    return true;
  } catch {
    return false;
  }
}
