/**
 * Prometheus' text form: metrics with their samples.
 *
 * L6, pure. Source: Prometheus "Exposition formats", text format 0.0.4.
 */

/** Kinds of metrics. */
export type MetricType = "counter" | "gauge" | "histogram";
/** Labels of a sample. */
export type Labels = Readonly<Record<string, string | number>>;

const escapeLabel = (text: string) =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
const escapeHelp = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");

/** Collects the samples of one exposition. */
export class Exposition {
  #text = "";

  /** Begins a metric; its samples follow. */
  metric(name: string, type: MetricType, help: string): void {
    this.#text += `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
  }

  sample(name: string, labels: Labels, value: number | bigint): void {
    const pairs = Object.entries(labels).map(([key, item]) => `${key}="${escapeLabel(String(item))}"`);
    this.#text += `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}\n`;
  }

  toString(): string {
    return this.#text;
  }
}
