/**
 * The program that the guest tests run: Nephos as built, or the original with `NEPHOS_TEST_PROGRAM=reference`, which
 * shows whether a test asks for what the original does.
 *
 * @module
 */

import { Guest, type GuestOptions } from "@tests/framework/guest.ts";
import { missing, type Needs, type ProgramName } from "@tests/framework/programs.ts";
import { Vm, type VmOptions } from "@tests/framework/vm.ts";

/** The program under test. */
export const PROGRAM = (Deno.env.get("NEPHOS_TEST_PROGRAM") ?? "nephos") as ProgramName;

/** True when the original is under test: for the few things in which Nephos is meant to be better. */
export const IS_REFERENCE = PROGRAM === "reference";

/** A test of the program on KVM; skipped, with the reason in its name, where it cannot run. */
export function guestTest(
  name: string,
  body: (test: Deno.TestContext) => Promise<void>,
  needs: Needs = {},
): void {
  const all = { kvm: true, [IS_REFERENCE ? "reference" : "binary"]: true, ...needs };
  const reason = missing(all);
  Deno.test({ name: reason ? `${name} (skipped: ${reason})` : name, ignore: reason !== undefined, fn: body });
}

/** As `guestTest`, with a Linux guest: left out with NEPHOS_LINUX_TESTS=0. Files with such tests are named `linux_…`. */
export function linuxTest(
  name: string,
  body: (test: Deno.TestContext) => Promise<void>,
  needs: Needs = {},
): void {
  guestTest(name, body, { linux: true, ...needs });
}

/** As `guestTest`, for a behaviour that only Nephos has: `why` says what the original does. */
export function betterTest(
  name: string,
  why: string,
  body: (test: Deno.TestContext) => Promise<void>,
  needs: Needs = {},
): void {
  if (IS_REFERENCE) Deno.test({ name: `${name} (skipped: the original ${why})`, ignore: true, fn: body });
  else guestTest(name, body, needs);
}

/** A process of the program under test. */
export function startVm(options: VmOptions = {}): Promise<Vm> {
  return Vm.start({ program: PROGRAM, ...options });
}

/** A Linux guest on the program under test. */
export function startGuest(options: GuestOptions = {}): Promise<Guest> {
  return Guest.start({ program: PROGRAM, ...options });
}
