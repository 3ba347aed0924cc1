/**
 * Network namespaces with tap devices, so that tests do not touch the host's network.
 *
 * Test framework; needs root and `ip`. A VMM started with `netns: namespace.name` finds the taps there; commands run
 * by `exec` are its neighbours.
 *
 * @module
 */

import { run } from "./command.ts";

let counter = 0;

/** One namespace; removed with all its devices at the end of the scope. */
export class NetworkNamespace implements AsyncDisposable {
  private constructor(readonly name: string) {}

  /** A new namespace with its loopback device up. */
  static async create(): Promise<NetworkNamespace> {
    const name = `nephos-${Deno.pid}-${counter++}`;
    await run("ip", "netns", "add", name);
    const namespace = new NetworkNamespace(name);
    await namespace.exec("ip", "link", "set", "lo", "up");
    return namespace;
  }

  /** Runs a command in the namespace to its end; returns its standard output. */
  exec(program: string, ...args: string[]): Promise<string> {
    return run("ip", "netns", "exec", this.name, program, ...args);
  }

  /** A command to spawn in the namespace. */
  command(program: string, args: string[], options: Deno.CommandOptions = {}): Deno.Command {
    return new Deno.Command("ip", { ...options, args: ["netns", "exec", this.name, program, ...args] });
  }

  /**
   * Adds a tap device that is up.
   *
   * @param options `address`: the host's side, such as `192.168.100.1/24`; `queues`: more than 1 makes it multi-queue
   */
  async addTap(name: string, options: { address?: string; queues?: number } = {}): Promise<void> {
    const extra = (options.queues ?? 1) > 1 ? ["multi_queue"] : [];
    await this.exec("ip", "tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr", ...extra);
    if (options.address) await this.exec("ip", "address", "add", options.address, "dev", name);
    await this.exec("ip", "link", "set", name, "up");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("ip", "netns", "delete", this.name);
  }
}
