/**
 * The objects on the bus: ours, with the API's interface, and those above it, which only lead there. All have the standard
 * interfaces.
 *
 * L6, pure. Source: D-Bus Specification 0.43, "Standard Interfaces".
 */
import { API_INTERFACE, apiXml } from "./methods.ts";

const STANDARD = "org.freedesktop.DBus";
/** Names of the standard interfaces. */
export const Interface = {
  introspectable: `${STANDARD}.Introspectable`,
  peer: `${STANDARD}.Peer`,
  properties: `${STANDARD}.Properties`,
} as const;

const STANDARD_XML = `  <interface name="${Interface.introspectable}">
    <method name="Introspect">
      <arg type="s" direction="out"/>
    </method>
  </interface>
  <interface name="${Interface.peer}">
    <method name="Ping">
    </method>
    <method name="GetMachineId">
      <arg type="s" direction="out"/>
    </method>
  </interface>
  <interface name="${Interface.properties}">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg type="v" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg type="a{sv}" direction="out"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
`;

/** An object of the bus. */
export interface BusObject {
  readonly interfaces: readonly string[];
  /** Its introspection document. */
  xml(): string;
}

const STANDARD_INTERFACES = Object.values(Interface);

function document(content: string): string {
  return `<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
${content}</node>
`;
}

/** The object at `path`, when ours is at `apiPath`; undefined if there is none. */
export function objectAt(path: string, apiPath: string): BusObject | undefined {
  if (path === apiPath) {
    return {
      interfaces: [API_INTERFACE, ...STANDARD_INTERFACES],
      xml: () => document(apiXml() + STANDARD_XML),
    };
  }
  const prefix = path === "/" ? "/" : `${path}/`;
  if (!apiPath.startsWith(prefix)) return undefined;
  const [child] = apiPath.slice(prefix.length).split("/");
  return {
    interfaces: STANDARD_INTERFACES,
    xml: () => document(`${STANDARD_XML}  <node name="${child}"/>\n`),
  };
}
