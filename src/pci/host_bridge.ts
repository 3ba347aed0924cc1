/**
 * The host bridge in slot 0 of segment 0: an identity and nothing else.
 *
 * L3, main isolate. Source: the original's configuration bytes.
 */
import { PciFunctionBlock, type PciFunctionState } from "./function_block.ts";
import { PciHeaderBuilder } from "./header.ts";

const HOST_BRIDGE = { vendorId: 0x8086, deviceId: 0x0d57, classCode: 0x06, subclass: 0x00 };

/** A new host bridge's block; Workers serve it with a plain `ConfigSpace`. */
export function createHostBridge(): PciFunctionState {
  const state = PciFunctionBlock.create();
  new PciHeaderBuilder(state, HOST_BRIDGE);
  return state;
}
