import assert from "node:assert/strict";
import { createSerial, Serial, SERIAL_INPUT_BYTES, SerialInput } from "./serial.ts";

const GSI = 4;

function port() {
  const state = createSerial();
  const log = { pulses: 0, wakes: 0, output: [] as number[] };
  const lines = {
    pulse(gsi: number) {
      assert.equal(gsi, GSI);
      log.pulses++;
    },
  };
  const serial = new Serial(state, {
    lines,
    gsi: GSI,
    output: { put: (byte: number) => void log.output.push(byte) },
    io: { wake: () => void log.wakes++ },
  });
  return { state, log, serial, input: new SerialInput(state, lines, GSI) };
}

const out = (serial: Serial, offset: number, value: number) => serial.write(offset, 1, value);
const bytes = (text: string) => new TextEncoder().encode(text);
const push = (input: SerialInput, text: string) => input.push(bytes(text), text.length);

Deno.test("Serial has the reset values of the data sheet", () => {
  const { serial } = port();
  assert.deepEqual([...Array(8).keys()].map((offset) => serial.read(offset, 1)), [
    0,
    0,
    0xc1,
    0x03,
    0x08,
    0x60,
    0xb0,
    0,
  ]);
  out(serial, 3, 0x83);
  assert.equal(serial.read(0, 1), 12);
  assert.equal(serial.read(1, 1), 0);
});

Deno.test("Serial keeps divisor, scratch and the low half of the interrupt enables", () => {
  const { serial, log } = port();
  out(serial, 3, 0x80);
  out(serial, 0, 0x34);
  out(serial, 1, 0x12);
  assert.equal(serial.read(0, 1), 0x34);
  assert.equal(serial.read(1, 1), 0x12);
  out(serial, 3, 0x03);
  out(serial, 1, 0xff);
  assert.equal(serial.read(1, 1), 0x0f);
  out(serial, 7, 0x5a);
  assert.equal(serial.read(7, 1), 0x5a);
  assert.deepEqual(log.output, []);
});

Deno.test("Serial sends each byte at once and reports the empty transmitter once", () => {
  const { serial, log } = port();
  out(serial, 0, 0x41);
  assert.equal(log.pulses, 0);
  out(serial, 1, 2);
  out(serial, 0, 0x42);
  assert.deepEqual(log.output, [0x41, 0x42]);
  assert.equal(log.pulses, 1);
  assert.equal(serial.read(2, 1), 0xc2);
  assert.equal(serial.read(2, 1), 0xc1);
  assert.equal(serial.read(5, 1), 0x60);
});

Deno.test("Serial keeps the receive interrupt pending while data is ready", () => {
  const { serial, log, input } = port();
  out(serial, 1, 1);
  push(input, "ab");
  assert.equal(log.pulses, 1);
  assert.equal(serial.read(2, 1), 0xc4);
  assert.equal(serial.read(2, 1), 0xc4);
  assert.equal(serial.read(5, 1), 0x61);
  assert.equal(serial.read(0, 1), 0x61);
  assert.equal(serial.read(2, 1), 0xc4);
  assert.equal(serial.read(0, 1), 0x62);
  assert.equal(serial.read(2, 1), 0xc1);
  assert.equal(serial.read(5, 1), 0x60);
  assert.equal(serial.read(0, 1), 0);
});

Deno.test("Serial reports received data before the empty transmitter and forgets neither", () => {
  const { serial, input } = port();
  out(serial, 1, 3);
  out(serial, 0, 0x41);
  push(input, "x");
  assert.equal(serial.read(2, 1), 0xc4);
  serial.read(0, 1);
  assert.equal(serial.read(2, 1), 0xc2);
  assert.equal(serial.read(2, 1), 0xc1);
});

Deno.test("Serial interrupts for bytes that came before the driver enabled it", () => {
  const { serial, log, input } = port();
  push(input, "early");
  assert.equal(log.pulses, 0);
  out(serial, 1, 1);
  assert.equal(log.pulses, 1);
  out(serial, 1, 1);
  assert.equal(log.pulses, 1);
});

Deno.test("SerialInput loses nothing: a full ring wakes the feeder when it is half empty", () => {
  const { serial, log, input } = port();
  const total = 20_000;
  const received: number[] = [];
  let sent = 0;
  const feed = () => {
    for (let room = input.room(); room > 0 && sent < total; room = input.room()) {
      const chunk = Uint8Array.from(
        { length: Math.min(room, 1000, total - sent) },
        (_, i) => (sent + i) % 251,
      );
      input.push(chunk, chunk.length);
      sent += chunk.length;
    }
  };
  feed();
  assert.equal(sent, SERIAL_INPUT_BYTES);
  while ((serial.read(5, 1) & 1) !== 0) {
    received.push(serial.read(0, 1));
    if (log.wakes > 0) {
      log.wakes = 0;
      feed();
    }
  }
  assert.equal(received.length, total);
  assert.ok(received.every((byte, i) => byte === i % 251));
});

Deno.test("Serial in loopback receives what it sends, up to 64 bytes, and holds real input back", () => {
  const { serial, log, input } = port();
  out(serial, 4, 0x18);
  assert.equal(input.room(), 0);
  for (let i = 0; i < 70; i++) out(serial, 0, i);
  assert.deepEqual(log.output, []);
  for (let i = 0; i < 64; i++) assert.equal(serial.read(0, 1), i);
  assert.equal(serial.read(5, 1) & 1, 0);
  log.wakes = 0;
  assert.equal(input.room(), 0);
  out(serial, 4, 0x08);
  assert.equal(log.wakes, 1);
  assert.equal(input.room(), SERIAL_INPUT_BYTES);
});

Deno.test("Serial ignores accesses that are not one byte wide", () => {
  const { serial, log } = port();
  serial.write(0, 2, 0x4241);
  serial.write(0, 4, 0x44434241);
  assert.deepEqual(log.output, []);
  assert.equal(serial.read(5, 2), 0);
  assert.equal(serial.read(5, 4), 0);
});
