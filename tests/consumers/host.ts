/**
 * The host's side of a conversation: taps of another network namespace, descriptors a process inherits, what the guest
 * does when its power button is pressed.
 *
 * @module
 */

import assert from "node:assert/strict";
import { check, SYS, syscall, word } from "@ffi/libc/syscall.ts";
import { close, O, open } from "@ffi/libc/fd.ts";
import { attachTap, setHeaderBytes } from "@ffi/libc/tap.ts";
import { eventually } from "@tests/framework/deadline.ts";
import type { NetworkNamespace } from "@tests/framework/netns.ts";
import type { Puppet } from "@tests/framework/puppet.ts";

const SETNS = 308n;
const CLONE_NEWNET = 0x4000_0000n;
const VNET_HEADER_BYTES = 12;
const F_SETFD = 2n;

/** Descriptors, closed at the end of the scope. */
export class Descriptors implements Disposable {
  #numbers: readonly number[];

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  /** The open ones. */
  get numbers(): readonly number[] {
    return this.#numbers;
  }

  /** The queues of a tap in a namespace, opened from here, as a network plug-in does it. */
  static ofTap(network: NetworkNamespace, name: string, queues = 1): Descriptors {
    const home = open("/proc/thread-self/ns/net", O.RDONLY);
    const away = open(`/run/netns/${network.name}`, O.RDONLY);
    const numbers: number[] = [];
    try {
      check(syscall(SETNS, word(away), CLONE_NEWNET), "setns");
      for (let queue = 0; queue < queues; queue++) {
        const fd = open("/dev/net/tun", O.RDWR | O.NONBLOCK);
        numbers.push(fd);
        attachTap(fd, name, queues > 1);
        setHeaderBytes(fd, VNET_HEADER_BYTES);
      }
    } finally {
      check(syscall(SETNS, word(home), CLONE_NEWNET), "setns");
      close(home);
      close(away);
    }
    return new Descriptors(numbers);
  }

  /** From now on, processes started here inherit them under the same numbers. */
  inherit(): this {
    for (const fd of this.numbers) check(syscall(SYS.fcntl, word(fd), F_SETFD, 0n), "fcntl");
    return this;
  }

  [Symbol.dispose](): void {
    this.#numbers.forEach(close);
    this.#numbers = []; // the numbers may be somebody else's from now on
  }
}

/** How many of a process's descriptors are taps of this interface. */
export async function tapDescriptors(pid: number, name: string): Promise<number> {
  let count = 0;
  for await (const { name: fd } of Deno.readDir(`/proc/${pid}/fdinfo`)) {
    const text = await Deno.readTextFile(`/proc/${pid}/fdinfo/${fd}`).catch(() => "");
    if (text.split("\n").includes(`iff:\t${name}`)) count++;
  }
  return count;
}

const GED_POWER_BUTTON = 8;
const PLATFORM_END_BELOW_TOP = 0x1_0000;
const CONTROLLER_PAGE_BYTES = 0x1000;
const POWER_PORT = 0x600;
const POWER_OFF = 0x34;

/**
 * Does what an operating system does when its power button is pressed: reads the notification, powers off.
 *
 * @param info `vm.info`: where the notification register lies follows from the configuration and the first device's BAR
 */
// deno-lint-ignore no-explicit-any
export async function powerOffOnButton(puppet: Puppet, info: any): Promise<void> {
  const nodes = Object.values(info.device_tree) as { resources: { PciBar?: { base: number } }[] }[];
  const bars = nodes.flatMap(({ resources }) =>
    resources.flatMap(({ PciBar }) => PciBar ? [PciBar.base] : [])
  );
  const top = 2 ** Math.ceil(Math.log2(Math.max(...bars)));
  const { memory } = info.config;
  const controllers = memory.hotplug_method === "Acpi" && memory.hotplug_size ? 4 : 3;
  const register = await puppet.map(top - PLATFORM_END_BELOW_TOP - controllers * CONTROLLER_PAGE_BYTES);
  let bits = 0;
  await eventually("a pressed power button", async () => {
    bits |= (await puppet.run(["readb", register]))[0];
    return (bits & GED_POWER_BUTTON) !== 0;
  });
  assert.equal(bits & ~0xf, 0, "a register of this machine was read");
  await puppet.leave(["outb", POWER_PORT, POWER_OFF]);
}

/** Waits until a path is gone. */
export async function gone(path: string): Promise<void> {
  await eventually(`the end of ${path}`, () => Deno.lstat(path).then(() => false, () => true));
}

/** True if a path is there. */
export function there(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}

/** Waits until something listens on a socket, asking as often as the client does. */
export async function dial(path: string): Promise<void> {
  await eventually(`somebody to listen on ${path}`, async () => {
    try {
      (await Deno.connect({ transport: "unix", path })).close();
      return true;
    } catch {
      return false;
    }
  });
}
