export function isTransportDefinition(value) {
  return typeof value === 'object' && value !== null && 'createDriver' in value && 'validate' in value;
}
