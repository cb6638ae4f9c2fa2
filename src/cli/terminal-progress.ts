/** Shows a download on stderr: one moving line on a terminal, a line now and then elsewhere. */
import type { DownloadReporter } from "../../models/download.ts";

export interface ProgressTarget {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** A log file gets a line per so many percent. */
const PLAIN_STEP_PERCENT = 10;

export function terminalProgress(target: ProgressTarget = process.stderr): DownloadReporter {
  const live = target.isTTY === true;
  let shownPercent = -1;
  let lineOpen = false;
  const endLine = (): void => {
    if (lineOpen) target.write("\n");
    lineOpen = false;
  };
  return {
    note(line) {
      endLine();
      shownPercent = -1;
      target.write(`${line}\n`);
    },
    progress(doneBytes, totalBytes) {
      if (totalBytes <= 0) return;
      const percent = Math.min(100, Math.floor((doneBytes / totalBytes) * 100));
      const due = live ? percent !== shownPercent : plainStep(percent) > plainStep(shownPercent);
      if (!due) return;
      shownPercent = percent;
      const text = `${String(percent).padStart(3)}%  ${megabytes(doneBytes)} of ${megabytes(totalBytes)}`;
      target.write(live ? `\r${text}` : `${text}\n`);
      lineOpen = live;
      if (percent === 100) endLine();
    },
  };
}

function plainStep(percent: number): number {
  return Math.floor(percent / PLAIN_STEP_PERCENT);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
