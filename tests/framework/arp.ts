/**
 * A guest's driver of a network device that asks its neighbour for an address.
 *
 * Test framework.
 *
 * @module
 */

import { eventually } from "./deadline.ts";
import type { Puppet } from "./puppet.ts";
import { DriverMemory, VirtioDriver } from "./virtio_driver.ts";

const HEADER_BYTES = 12;
const BUFFER_BYTES = 2048;
const BUFFERS = 8;
const ARP_REPLY = 2;

/**
 * Starts the driver and sends ARP requests until one is answered.
 *
 * @param slot the device's place on segment 0
 * @param guestMac its address
 * @param hostIp who is asked for; the guest is `.2` of the same network
 * @returns the frame that answers, on whichever queue it came
 */
export async function askNeighbour(
  puppet: Puppet,
  slot: number,
  guestMac: readonly number[],
  hostIp: readonly number[],
): Promise<number[]> {
  const driver = await VirtioDriver.start(new DriverMemory(puppet), slot);
  const receiving = driver.queues.map((queue, index) => ({
    queue,
    index,
    buffers: new Map<number, number>(),
  }))
    // Pairs, and after them perhaps the control queue.
    .filter(({ index }) => index % 2 === 0 && index + 1 < driver.queues.length);
  for (const { queue, index, buffers } of receiving) {
    for (let i = 0; i < BUFFERS; i++) {
      const { head, addresses } = await queue.submit({ receive: BUFFER_BYTES });
      buffers.set(head, addresses[0]);
    }
    await driver.notify(index);
  }
  const question = [
    ...[...Array(6).fill(0xff), ...guestMac, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ...[...guestMac, ...hostIp.with(3, 2), ...Array(6).fill(0), ...hostIp, ...Array(18).fill(0)],
  ];
  return await eventually("an answer from the neighbour", async () => {
    await driver.queues[1].submit({ send: Uint8Array.from([...Array(HEADER_BYTES).fill(0), ...question]) });
    await driver.notify(1);
    await driver.queues[1].complete();
    for (const { queue, buffers } of receiving) {
      for (let packet; (packet = await queue.poll()) !== undefined;) {
        const bytes = await puppet.readMemory(buffers.get(packet.head)!, packet.writtenBytes);
        const frame = bytes.subarray(HEADER_BYTES);
        if (frame[12] === 8 && frame[13] === 6 && frame[21] === ARP_REPLY) return [...frame];
      }
    }
    return undefined;
  });
}
