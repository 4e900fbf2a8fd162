export declare class Workspace {
  static create(): Promise<Workspace>;
  remove(): Promise<void>;
}
