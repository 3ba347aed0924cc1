/**
 * The packet that tells switches on which port a MAC address is now.
 *
 * L4, pure. Source: RFC 903 (the addresses do not matter; the source address is what switches learn).
 */
import { NetConfigLayout, PacketHeader } from "./spec.ts";

const MAC_BYTES = 6;
/** Shortest Ethernet frame without its checksum. */
const FRAME_BYTES = 60;
const ETHERTYPE_RARP = 0x8035;
const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;
const IPV4_BYTES = 4;
const REVERSE_REQUEST = 3;

/** Offsets in the frame. */
const Frame = {
  destination: 0,
  source: 6,
  type: 12,
  hardware: 14,
  protocol: 16,
  lengths: 18,
  operation: 20,
} as const;
const SENDER_HARDWARE = 22;
const TARGET_HARDWARE = 32;

/** A broadcast reverse ARP request from the MAC address in `config`, behind an empty virtio header. */
export function reverseArpPacket(config: Uint8Array): Uint8Array<ArrayBuffer> {
  const packet = new Uint8Array(PacketHeader.size + FRAME_BYTES);
  const frame = packet.subarray(PacketHeader.size);
  const view = new DataView(packet.buffer, PacketHeader.size);
  const mac = config.subarray(NetConfigLayout.mac, NetConfigLayout.mac + MAC_BYTES);
  frame.fill(0xff, Frame.destination, Frame.source);
  frame.set(mac, Frame.source);
  view.setUint16(Frame.type, ETHERTYPE_RARP);
  view.setUint16(Frame.hardware, HARDWARE_ETHERNET);
  view.setUint16(Frame.protocol, PROTOCOL_IPV4);
  view.setUint8(Frame.lengths, MAC_BYTES);
  view.setUint8(Frame.lengths + 1, IPV4_BYTES);
  view.setUint16(Frame.operation, REVERSE_REQUEST);
  frame.set(mac, SENDER_HARDWARE);
  frame.set(mac, TARGET_HARDWARE);
  return packet;
}
