/**
 * The D-Bus front door: methods into commands, events into signals.
 *
 * L6, main isolate; loaded only when asked for. Source: spec/seed-api.txt "D-Bus API", spec/observed.md "D-Bus".
 */
import type { DbusOptions } from "@vmm/cli/command_result.ts";
import type { RequestCounters } from "@vmm/log/counters.ts";
import type { EventStream } from "@vmm/log/events.ts";
import { log } from "@vmm/log/logger.ts";
import type { OperationWithBody } from "../body_reader.ts";
import type { SendCommand } from "../channel.ts";
import type { ApiCommand } from "../command.ts";
import { MAX_BEHIND } from "../event_feed.ts";
import type { FrontDoor } from "../front_door.ts";
import { type BodyReader, UNKNOWN_ENDPOINT } from "../router.ts";
import { BusError, BusErrorName, type CallResult, isTooLong, replyTo, statusOf } from "./call_result.ts";
import {
  type BusHeader,
  type BusValue,
  decodeBody,
  MessageType,
  NO_PROPERTIES,
  NO_REPLY_EXPECTED,
  shownSignature,
} from "./message.ts";
import { API_INTERFACE, METHOD_OF_NAME } from "./methods.ts";
import { isObjectPath, isWellKnownName } from "./names.ts";
import { type BusObject, Interface, objectAt } from "./objects.ts";
import { busAddress, BusConnection, type IncomingMessage } from "./serve_connection.ts";

const BUS = {
  destination: "org.freedesktop.DBus",
  path: "/org/freedesktop/DBus",
  interface: "org.freedesktop.DBus",
};
const MS_PER_SECOND = 1_000;
const DO_NOT_QUEUE = 4;
const PRIMARY_OWNER = 1;
/** Methods of the properties' interface with the types of their arguments. */
const PROPERTY_METHODS: Readonly<Record<string, string>> = { Get: "ss", Set: "ssv", GetAll: "s" };
const MACHINE_ID_FILES = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/** What the door needs of the VMM. */
export interface DbusParts {
  readonly send: SendCommand;
  readonly bodies: BodyReader;
  readonly events: EventStream;
  readonly counters: RequestCounters;
}

function machineId(): string {
  for (const path of MACHINE_ID_FILES) {
    try {
      return Deno.readTextFileSync(path).trim();
    } catch {
      // The next one may be there.
    }
  }
  throw new BusError(BusErrorName.failed, "This host has no machine id");
}

/** One service on one bus. */
class Service implements FrontDoor {
  #closing = false;
  readonly #answering = new Set<Promise<void>>();
  /** Signals the bus has not taken yet. */
  #signalling = 0;

  constructor(
    private readonly bus: BusConnection,
    private readonly objectPath: string,
    private readonly parts: DbusParts,
  ) {}

  /** Calls a method of the bus itself and waits for its answer. @throws Error with the bus's message */
  async callBus(member: string, body: readonly (string | number)[]): Promise<IncomingMessage> {
    const serial = await this.bus.send({ type: MessageType.call, ...BUS, member, body });
    for (;;) {
      const message = await this.bus.receive();
      if (message === undefined) throw new Error("The bus closed the connection");
      const { header } = message;
      if (header.replySerial !== serial) continue;
      if (header.type === MessageType.error) {
        const text = header.signature?.startsWith("s")
          ? decodeBody(message.body!, "s", message.order)[0]
          : "";
        throw new Error(`${member} failed: ${header.errorName}: ${text}`);
      }
      return message;
    }
  }

  /** Answers calls until the connection ends. */
  async run(): Promise<void> {
    try {
      for (
        let message = await this.bus.receive();
        message !== undefined;
        message = await this.bus.receive()
      ) {
        if (message.header.type !== MessageType.call) continue;
        const answer = this.#answer(message);
        this.#answering.add(answer);
        answer.finally(() => this.#answering.delete(answer));
      }
      if (!this.#closing) log.error("The message bus ended the connection");
    } catch (error) {
      if (!this.#closing) log.error(`D-Bus: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Tells an event. */
  signal(text: string): void {
    if (this.#closing) return;
    const event = {
      type: MessageType.signal,
      path: this.objectPath,
      interface: API_INTERFACE,
      member: "Event",
    };
    if (this.#signalling >= MAX_BEHIND) {
      log.limited("WARN", "dbus-signal", "Event not signalled on D-Bus: the bus does not read");
      return;
    }
    this.#signalling++;
    this.bus.send({ ...event, body: [text] }).catch(() => {}).finally(() => this.#signalling--);
  }

  async close(): Promise<void> {
    // Events of the end and the answer to what caused it are still under way.
    await Promise.allSettled(this.#answering);
    await this.bus.flush();
    this.#closing = true;
    this.bus.close();
  }

  async #answer(message: IncomingMessage): Promise<void> {
    const { header } = message;
    const started = performance.now();
    const result = await this.#result(message);
    this.#count(header, result, (performance.now() - started) / MS_PER_SECOND);
    if ((header.flags & NO_REPLY_EXPECTED) !== 0) return;
    const to = { replySerial: header.serial, destination: header.sender };
    await this.bus.send({ ...replyTo(result), ...to }).catch(() => {});
  }

  async #result(message: IncomingMessage): Promise<CallResult> {
    try {
      return { failed: false, value: await this.#call(message) };
    } catch (error) {
      return { failed: true, error };
    }
  }

  /** Counts a call of the API's interface under the status that REST would have answered. */
  #count(
    { path, interface: of = API_INTERFACE, member = "" }: BusHeader,
    result: CallResult,
    seconds: number,
  ): void {
    if (of !== API_INTERFACE) return;
    const { counters } = this.parts;
    const operation = path === this.objectPath ? METHOD_OF_NAME.get(member)?.operation : undefined;
    if (isTooLong(result)) counters.refuse("too_long");
    else counters.record(operation ?? UNKNOWN_ENDPOINT, statusOf(operation, result), seconds);
  }

  /** The result of a call, undefined for none. @throws BusError, OperationError */
  #call(message: IncomingMessage): Promise<BusValue | undefined> | BusValue | undefined {
    const { header: { path = "", member = "", interface: wanted = API_INTERFACE } } = message;
    if (wanted === Interface.peer) return this.#callPeer(member);
    const object = objectAt(path, this.objectPath);
    if (object === undefined) throw new BusError(BusErrorName.unknownObject, `Unknown object '${path}'`);
    if (!object.interfaces.includes(wanted)) throw unknownInterface(wanted);
    if (wanted === API_INTERFACE) return this.#callApi(member, message);
    if (wanted === Interface.properties) return this.#callProperties(member, message, object);
    if (member !== "Introspect") throw unknownMethod(member);
    return object.xml();
  }

  #callPeer(member: string): string | undefined {
    if (member === "Ping") return undefined;
    if (member === "GetMachineId") return machineId();
    throw unknownMethod(member);
  }

  /** No interface has any property. */
  #callProperties(member: string, message: IncomingMessage, { interfaces }: BusObject): BusValue {
    if (!Object.hasOwn(PROPERTY_METHODS, member)) throw unknownMethod(member);
    const expected = PROPERTY_METHODS[member];
    const [of, property] = argumentsOf(message, expected);
    if (!interfaces.includes(of)) throw unknownInterface(of);
    if (member === "GetAll") return NO_PROPERTIES;
    throw new BusError(BusErrorName.unknownProperty, `Unknown property '${property}'`);
  }

  async #callApi(member: string, message: IncomingMessage): Promise<string | undefined> {
    const method = METHOD_OF_NAME.get(member);
    if (method === undefined) throw unknownMethod(member);
    const { operation, argument, returns } = method;
    let body: unknown;
    if (argument !== undefined) {
      const [text] = argumentsOf(message, "s");
      const result = this.parts.bodies.readBody(
        operation as OperationWithBody,
        new TextEncoder().encode(text),
      );
      if (!result.ok) throw new BusError(BusErrorName.failed, result.message);
      body = result.body;
    }
    const reply = await this.parts.send({ operation, body } as ApiCommand);
    if (!returns) return undefined;
    return reply.kind === "json" ? reply.text : "";
  }
}

const unknownMethod = (name: string) => new BusError(BusErrorName.unknownMethod, `Unknown method '${name}'`);
const unknownInterface = (name: string) =>
  new BusError(BusErrorName.unknownInterface, `Unknown interface '${name}'`);

/** The strings among a call's arguments, which have the types `expected`, strings first. @throws BusError */
function argumentsOf(
  { header: { signature = "" }, body, order }: IncomingMessage,
  expected: string,
): string[] {
  if (body === undefined) throw new BusError(BusErrorName.limits, "The argument is too long");
  if (signature !== expected) {
    const [got, want] = [signature, expected].map(shownSignature);
    throw new BusError(BusErrorName.signature, `Signature mismatch: got \`${got}\`, expected \`${want}\``);
  }
  return decodeBody(body, expected.replace(/[^s].*/, ""), order) as string[];
}

/** Offers the API on a bus. @throws Error when the bus cannot be reached, the name is taken, or name or path are none */
export async function serveDbus(options: DbusOptions, parts: DbusParts): Promise<FrontDoor> {
  const { serviceName, objectPath, systemBus } = options;
  if (!isWellKnownName(serviceName)) throw new Error(`"${serviceName}" is no well-known name`);
  if (!isObjectPath(objectPath)) throw new Error(`"${objectPath}" is no object path`);
  const bus = await BusConnection.open(busAddress(systemBus));
  const service = new Service(bus, objectPath, parts);
  await service.callBus("Hello", []);
  const owner = await service.callBus("RequestName", [serviceName, DO_NOT_QUEUE]);
  if (decodeBody(owner.body!, "u", owner.order)[0] !== PRIMARY_OWNER) {
    bus.close();
    throw new Error(`D-Bus service name "${serviceName}" is already in use`);
  }
  parts.events.subscribe((event) => service.signal(JSON.stringify(event, null, 2)));
  service.run();
  return service;
}
