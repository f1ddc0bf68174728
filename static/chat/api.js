// Requests to the site itself.

const TIMEOUT_MS = 15_000;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The token is read at every call: signing in again elsewhere replaces it. */
function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

/** The first text in an answer such as {"detail": "…"} or {"text": ["…"]}. */
function explanation(answer) {
  const first = Object.values(answer ?? {}).flat()[0];
  return typeof first === "string" ? first : "The server could not do that.";
}

/**
 * GET, or POST when there is a body.
 *
 * Throws an ApiError: with the status of the answer, or 0 where there was none.
 */
export async function request(url, body) {
  let response;
  try {
    response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        Accept: "application/json",
        ...(body !== undefined && {
          "Content-Type": "application/json",
          "X-CSRFToken": csrfToken(),
        }),
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, "The server could not be reached.");
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, explanation(answer));
  return answer;
}
