import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { accept, listenUnix, SocketMessage, socketPair } from "@ffi/libc/socket.ts";
import { canRead } from "@ffi/libc/poll.ts";
import { connectTpm, type StepLimit } from "./connect.ts";
import { TpmLink } from "./link.ts";

const BUFFER = 3968;
const SUCCESS = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];

type Answers = Record<number, number[]>;

/** What a well-behaved swtpm answers, by command. */
const ANSWERS: Answers = {
  1: [0, 0, 0, 0, 0, 0, 0xff, 0xff],
  2: [0, 0, 0, 0],
  4: [0, 0, 0, 0, 1, 0, 0, 0],
  14: [0, 0, 0, 0],
  16: [0, 0, 0, 0],
  17: [0, 0, 0, 0, 0, 0, 0x0f, 0x80, 0, 0, 0, 0, 0, 0, 0x0f, 0x80],
};

/** Long enough for an answer that does come, however busy the machine. */
const PATIENCE_MS = 600_000;

/**
 * Connects to a fake that answers as told and stays connected until the outcome is known.
 *
 * @returns the commands it got, and what came of it
 */
async function meet(answers: Answers, startup: number[] = SUCCESS, limitMs: StepLimit = () => PATIENCE_MS) {
  const directory = await Deno.makeTempDir({ prefix: "nephos-tpm-" });
  const path = `${directory}/s`;
  const listenFd = listenUnix(path);
  const message = new SocketMessage(64, 2);
  const commands: number[] = [];
  let [fd, dataFd] = [-1, -1];
  const timer = setInterval(() => {
    if (fd < 0) fd = accept(listenFd);
    if (fd >= 0 && canRead(fd) && message.receive(fd) > 0) {
      const command = message.data[3];
      commands.push(command);
      if (command === 16) [dataFd] = message.descriptors;
      const answer = answers[command];
      if (answer !== undefined) message.send(fd, Uint8Array.from(answer));
    }
    if (dataFd >= 0 && canRead(dataFd) && message.receive(dataFd) > 0) {
      message.send(dataFd, Uint8Array.from(startup));
    }
  }, 1);
  try {
    const tpm = await connectTpm(path, BUFFER, limitMs);
    tpm.release();
    return { commands, established: tpm.established };
  } finally {
    clearInterval(timer);
    [fd, dataFd, listenFd].forEach(close);
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("connectTpm() hands over the data channel, sets the buffer and starts the TPM", async () => {
  const { commands, established } = await meet(ANSWERS);
  assert.deepEqual(commands, [16, 1, 14, 17, 2, 4]);
  assert.equal(established, true);
});

Deno.test("connectTpm() says what a swtpm lacks, refuses or needs", async () => {
  await assert.rejects(
    meet({ ...ANSWERS, 1: [0, 0, 0, 0, 0, 0, 0xef, 0xdf] }),
    /lacks CANCEL_TPM_CMD, SET_DATAFD/,
  );
  await assert.rejects(meet({ ...ANSWERS, 2: [0, 0, 0, 9] }), /refused INIT: result 0x9/);
  await assert.rejects(
    meet({ ...ANSWERS, 17: [...ANSWERS[17].slice(0, 6), 0x10, 0, ...new Array(8).fill(0)] }),
    {
      message: "The TPM needs a buffer of 4096 bytes, there are 3968",
    },
  );
  await assert.rejects(meet(ANSWERS, [0x80, 1, 0xff, 0, 0, 0, 0, 0, 0, 0]), /nonsense/);
  await assert.rejects(connectTpm("/nonexistent/tpm", BUFFER), { name: "OsError" });
});

Deno.test("connectTpm() does not wait for ever", async () => {
  // Only the step whose answer never becomes complete has a limit: none that is answered can meet one.
  const hurry = (hurried: string) => (step: string) => step === hurried ? 0 : PATIENCE_MS;
  for (const half of [[], [0, 0]]) {
    await assert.rejects(meet({ ...ANSWERS, 14: half }, SUCCESS, hurry("STOP")), {
      message: "No answer to STOP within 0 s",
    });
  }
  await assert.rejects(meet(ANSWERS, SUCCESS.slice(0, 9), hurry("TPM2_Startup")), {
    message: "No answer to TPM2_Startup within 0 s",
  });
});

/** A link whose TPM is the test. */
function linked() {
  const [controlFd, farControl] = socketPair();
  const [dataFd, farData] = socketPair();
  const far = { control: farControl, data: farData };
  const watches = new Map<number, () => void>();
  const log: string[] = [];
  const link = new TpmLink({ controlFd, dataFd }, {
    watch: (fd, _events, ready) => void watches.set(fd, () => ready(1)),
    unwatch: (fd) => void watches.delete(fd),
    post: (event) => void log.push(String(event.text)),
  });
  const message = new SocketMessage(8192);
  return {
    link,
    log,
    far,
    send: (bytes: number[]) => message.send(far.data, Uint8Array.from(bytes)),
    received: (fd: number) => message.receive(fd),
    settle: () => {
      for (const [fd, ready] of [...watches]) if (canRead(fd)) ready();
    },
    close: () => {
      link.close();
      [controlFd, dataFd, far.control, far.data].forEach(close);
    },
  };
}

Deno.test("execute() gives the whole response, however it arrives", () => {
  const t = linked();
  const responses: (Uint8Array | undefined)[] = [];
  t.link.execute(new Uint8Array(12), (response) => responses.push(response));
  assert.equal(t.received(t.far.data), 12);
  for (const byte of SUCCESS) {
    t.send([byte]);
    t.settle();
  }
  assert.deepEqual(responses.map((response) => [...response!]), [SUCCESS]);
  t.link.execute(new Uint8Array(12), (response) => responses.push(response));
  t.link.cancel();
  assert.equal(t.received(t.far.control), 4);
  t.send([...SUCCESS.slice(0, 5), 11, 0, 0, 0, 0, 7]);
  t.settle();
  assert.equal(responses[1]!.byteLength, 11);
  t.close();
});

Deno.test("a TPM that hangs up or talks nonsense is gone, and commands are answered so", () => {
  for (const misbehave of ["nonsense", "unasked", "hang up"] as const) {
    const t = linked();
    const responses: (Uint8Array | undefined)[] = [];
    if (misbehave !== "unasked") t.link.execute(new Uint8Array(12), (response) => responses.push(response));
    if (misbehave === "hang up") {
      close(t.far.data);
      t.far.data = -1;
    } else t.send([0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    t.settle();
    t.link.execute(new Uint8Array(12), (response) => responses.push(response));
    assert.ok(responses.every((response) => response === undefined));
    assert.equal(t.log.length, 1);
    t.close();
  }
});
