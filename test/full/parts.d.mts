export declare const parts: Readonly<Record<string, readonly { readonly name: string }[]>>;
