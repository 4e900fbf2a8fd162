/**
 * The report of the public API: every exported name with its type, one file for each entry point, made from the
 * declarations of the built library. `npm run api` writes it anew.
 */
import { Extractor, ExtractorConfig, ExtractorMessageCategory } from '@microsoft/api-extractor';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const projectFolder = fileURLToPath(new URL('../../../', import.meta.url));
const reportFolder = fileURLToPath(new URL('./', import.meta.url));

export const entryPoints = ['index', 'kafka', 'memory', 'rabbitmq', 'redis', 'testing'];

/**
 * @param {string} entryPoint
 * @param {{ readonly write: boolean }} options False: the file is only compared.
 * @returns {boolean} whether the report was up to date
 */
export function reportApi(entryPoint, { write }) {
  const declarations = entryPoint === 'index' ? 'index' : `${entryPoint}/index`;
  const reportTempFolder = `${projectFolder}.build/api`;
  mkdirSync(reportTempFolder, { recursive: true });
  const config = ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: `${projectFolder}package.json`,
    configObject: {
      projectFolder,
      mainEntryPointFilePath: `${projectFolder}dist/esm/${declarations}.d.ts`,
      compiler: { tsconfigFilePath: `${projectFolder}lib/tsconfig.json` },
      apiReport: { enabled: true, reportFileName: `${entryPoint}.api.md`, reportFolder, reportTempFolder },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      // Forgotten exports are not reported: an entry point may use types that another one exports.
      messages: Object.fromEntries(
        ['compilerMessageReporting', 'extractorMessageReporting', 'tsdocMessageReporting'].map((kind) => [
          kind,
          { default: { logLevel: kind.startsWith('compiler') ? 'error' : 'none' } },
        ]),
      ),
    },
  });
  const { apiReportChanged, errorCount } = Extractor.invoke(config, {
    localBuild: write,
    messageCallback: (message) => {
      message.handled = message.category !== ExtractorMessageCategory.Compiler;
    },
  });
  if (errorCount > 0) throw new Error(`${declarations}.d.ts has ${errorCount} errors`);
  return !apiReportChanged;
}
