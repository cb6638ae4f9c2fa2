/** Fetches GGUF files from Hugging Face through node-llama-cpp's downloader; loads no native code. */

export interface HubDownload {
  /** `hf:org/repo`, `hf:org/repo:QUANT` or `hf:org/repo/file.gguf`. */
  readonly uri: string;
  /** Receives the file, or all parts of a split one. Partial files in it are continued. */
  readonly directory: string;
  /** Base URL of the hub, ending in a slash. */
  readonly endpoint: string;
  /** For gated repositories. */
  readonly token: string | undefined;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Resolves with the path of the file to load.
 * @throws {Error} In the words of the downloader.
 */
export async function downloadFromHub(download: HubDownload): Promise<string> {
  // Importing it installs signal listeners and takes half a second, so only a download pays for it.
  const { createModelDownloader } = await import("node-llama-cpp");
  const downloader = await createModelDownloader({
    modelUri: download.uri,
    dirPath: download.directory,
    showCliProgress: false,
    deleteTempFileOnCancel: false,
    endpoints: { huggingFace: download.endpoint },
    ...(download.token === undefined ? {} : { tokens: { huggingFace: download.token } }),
    onProgress: ({ downloadedSize, totalSize }) => download.onProgress(downloadedSize, totalSize),
  });
  return await downloader.download();
}
