export { open } from './pipeline.mjs';
