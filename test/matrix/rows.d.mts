export declare const lowestNest: string;
export declare const nodes: readonly { readonly version: string }[];
