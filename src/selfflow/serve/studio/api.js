// The HTTP side: the model's description, assets by hash, and history.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    const body = await response.json();
    message = body.message ?? body.error?.message ?? body.detail ?? message;
  } catch {
    // No reason was given; the status is all there is.
  }
  throw new Refused(response.status, typeof message === "string" ? message : JSON.stringify(message));
}

export const model = async () => (await call("/api/model")).json();

/** Uploads a Blob; the answer is {hash, kind, width, height}. */
export const upload = async (blob) =>
  (await call("/api/assets", { method: "POST", body: blob, headers: { "Content-Type": blob.type } })).json();

export const asset = async (hash) => (await call(`/api/assets/${hash}`)).blob();
export const assetAddress = (hash) => `/api/assets/${hash}`;

/** Entries, newest first, before the one given. */
export const history = async (limit, before = null) =>
  (await (await call(`/api/history?limit=${limit}${before ? `&before=${encodeURIComponent(before)}` : ""}`)).json())
    .entries;

export const forget = (id) => call(`/api/history/${encodeURIComponent(id)}`, { method: "DELETE", keepalive: true });

export const downloadAddress = (id, metadata) =>
  `/api/history/${encodeURIComponent(id)}/download${metadata ? "" : "?metadata=0"}`;
