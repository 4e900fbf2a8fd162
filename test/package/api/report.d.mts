export declare const entryPoints: readonly string[];
export declare function reportApi(entryPoint: string, options: { readonly write: boolean }): boolean;
