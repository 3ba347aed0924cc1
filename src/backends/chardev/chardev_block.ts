/**
 * State of a character back-end that vCPU Workers and the I/O Worker share: who listens, and what was not written yet.
 *
 * L4, any isolate. Source: spec/machine-model.md §8 "console modes" (1 MiB ring).
 */
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Output kept for a listener that is slow or not there yet. */
export const OUTPUT_RING_BYTES = 1 << 20;

/** `writer` when nobody listens. */
export const NO_WRITER = 0xffff_ffff;

/** What happens to output while nobody listens. */
export const Unheard = { keep: 0, discard: 1 } as const;

/** All of it is changed under the block's lock. */
export const ChardevBlock = defineBlock("chardev", {
  /** Descriptor that takes output now, or `NO_WRITER`. */
  writer: "u32",
  /** One of `Unheard`. */
  unheard: "u32",
  /** Bytes lost: the ring was full, or the descriptor refused them for good. */
  dropped: "u32",
  /** Oldest byte of the ring, and how many there are. */
  head: "u32",
  count: "u32",
  ring: { u8: OUTPUT_RING_BYTES },
});
export type ChardevState = BlockOf<typeof ChardevBlock>;

/** Appends `bytes[from, to)`; the oldest bytes give way. The caller holds the lock. */
export function appendOutput(state: ChardevState, bytes: Uint8Array, from: number, to: number): void {
  const tooMany = Math.max(0, to - from - OUTPUT_RING_BYTES);
  let at = from + tooMany;
  const overflow = Math.max(0, state.count + (to - at) - OUTPUT_RING_BYTES);
  consumeOutput(state, overflow);
  state.dropped += tooMany + overflow;
  while (at < to) {
    const tail = (state.head + state.count) % OUTPUT_RING_BYTES;
    const length = Math.min(to - at, OUTPUT_RING_BYTES - tail);
    for (let i = 0; i < length; i++) state.ring[tail + i] = bytes[at + i];
    state.count += length;
    at += length;
  }
}

/** Copies the oldest bytes into `target`; returns how many. The caller holds the lock. */
export function peekOutput(state: ChardevState, target: Uint8Array): number {
  const length = Math.min(state.count, target.length, OUTPUT_RING_BYTES - state.head);
  for (let i = 0; i < length; i++) target[i] = state.ring[state.head + i];
  return length;
}

/** Forgets the oldest `length` bytes. The caller holds the lock. */
export function consumeOutput(state: ChardevState, length: number): void {
  state.head = (state.head + length) % OUTPUT_RING_BYTES;
  state.count -= length;
}
