/**
 * Sub-commands over D-Bus: one method call each, its answer as text.
 *
 * L6, main isolate; loaded only when a bus is asked for. Source: spec/seed-api.txt "D-Bus API"; texts observed on the
 * original.
 */
import { decodeBody, MessageType } from "@vmm/api/dbus/message.ts";
import { API_INTERFACE, METHOD_OF_NAME } from "@vmm/api/dbus/methods.ts";
import { isBusName, isObjectPath } from "@vmm/api/dbus/names.ts";
import { busAddress, BusConnection } from "@vmm/api/dbus/serve_connection.ts";

/** Whom to talk to. */
export interface BusPlace {
  readonly serviceName: string;
  readonly objectPath: string;
  readonly systemBus: boolean;
}

const BUS = "org.freedesktop.DBus";
const BUS_PATH = "/org/freedesktop/DBus";

/** What a method failed with. */
export class BusCallError extends Error {
  override readonly name = "BusCallError";
}

/** The service of a VMM on a bus. */
export class BusProxy {
  private constructor(private readonly bus: BusConnection, private readonly place: BusPlace) {}

  /** Connects to the bus. @throws Error without a bus, or for names that are none */
  static async open(place: BusPlace): Promise<BusProxy> {
    const { serviceName, objectPath, systemBus } = place;
    if (!isBusName(serviceName)) throw new Error(`"${serviceName}" is no name on a bus`);
    if (!isObjectPath(objectPath)) throw new Error(`"${objectPath}" is no object path`);
    const bus = await BusConnection.open(busAddress(systemBus));
    const proxy = new BusProxy(bus, place);
    try {
      await proxy.#exchange({ destination: BUS, path: BUS_PATH, interface: BUS, member: "Hello" });
    } catch (error) {
      bus.close();
      throw error;
    }
    return proxy;
  }

  /** Calls the method of `endpoint`, such as `vm.info`. @returns its text, undefined when it has none. @throws BusCallError */
  async call(endpoint: string, body?: Uint8Array): Promise<string | undefined> {
    const method = [...METHOD_OF_NAME.values()].find(({ operation }) => operation === endpoint);
    if (method === undefined) throw new BusCallError(`${endpoint} is not offered on D-Bus`);
    const text = await this.#exchange({
      destination: this.place.serviceName,
      path: this.place.objectPath,
      interface: API_INTERFACE,
      member: method.name,
      body: method.argument === undefined ? [] : [new TextDecoder().decode(body)],
    });
    return text || undefined;
  }

  async #exchange(message: {
    destination: string;
    path: string;
    interface: string;
    member: string;
    body?: string[];
  }): Promise<string | undefined> {
    const serial = await this.bus.send({ type: MessageType.call, ...message });
    for (;;) {
      const answer = await this.bus.receive();
      if (answer === undefined) throw new BusCallError("The bus closed the connection");
      const { header, body, order } = answer;
      if (header.replySerial !== serial) continue;
      const text = header.signature?.startsWith("s") && body !== undefined
        ? String(decodeBody(body, "s", order)[0])
        : undefined;
      if (header.type === MessageType.error) throw new BusCallError(`${header.errorName}: ${text ?? ""}`);
      return text;
    }
  }

  close(): void {
    this.bus.close();
  }
}
