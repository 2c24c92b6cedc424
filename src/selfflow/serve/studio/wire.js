// One WebSocket that comes back by itself. Text messages are JSON; binary ones a header and the bytes of its parts.

const SHORTEST = 500, LONGEST = 8000, PING = 15000; // milliseconds

export class Wire extends EventTarget {
  #path;
  #socket = null;
  #failures = 0;
  #timer = 0;
  #wanted = null; // aborted once nobody wants the connection any more
  #heard = 0;
  #greeted = false;
  #greets;

  /** `greets`: whether the server says {"type": "ready"} first; only then is the connection good. */
  constructor(path, { greets = false } = {}) {
    super();
    this.#path = path;
    this.#greets = greets;
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN && this.#greeted;
  }

  connect() {
    if (!this.#wanted) this.#watch();
    clearTimeout(this.#timer);
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${this.#path}`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#tell("state", { state: "connecting" });
    this.#greeted = false;
    socket.onopen = () => this.#greets || this.#good();
    socket.onmessage = ({ data }) => {
      this.#heard = performance.now();
      if (typeof data === "string") {
        const message = JSON.parse(data);
        if (message.type === "ready" && !this.#greeted) this.#good();
        else this.#tell("message", message);
      }
      else this.#tell("parts", unpack(data));
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      const wait = Math.min(LONGEST, SHORTEST * 2 ** this.#failures++) * (0.8 + 0.4 * Math.random());
      this.#timer = setTimeout(() => this.connect(), wait);
      this.#tell("state", { state: "waiting", wait });
    };
  }

  #good() {
    this.#failures = 0;
    this.#greeted = true;
    this.#heard = performance.now();
    this.#tell("state", { state: "open" });
  }

  /** Try now rather than when the wait is over. */
  retry() {
    if (!this.#socket && this.#wanted) this.connect();
  }

  /** Until it is closed: is the other end alive, is the network back? */
  #watch() {
    this.#wanted = new AbortController();
    const { signal } = this.#wanted;
    const pinging = setInterval(() => this.#ping(), PING);
    signal.addEventListener("abort", () => clearInterval(pinging));
    addEventListener("online", () => this.retry(), { signal });
  }

  close() {
    this.#wanted?.abort();
    this.#wanted = null;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** Whether it could be sent. */
  send(message) {
    if (!this.open) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #ping() {
    if (!this.open) return;
    if (performance.now() - this.#heard > 3 * PING) this.#socket.close();
    else this.send({ type: "ping", at: Math.round(performance.now()) });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** {header, parts}: each part of the header with its `data`. */
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const parts = header.parts.map((part) => {
    const data = new Uint8Array(buffer, at, part.bytes);
    at += part.bytes;
    return { ...part, data };
  });
  return { header, parts };
}
