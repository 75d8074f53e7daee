// What our scripts import from ComfyUI's page. It has types of its own, but no stable ones.

declare module "*/scripts/api.js" {
  export const api: any;
}

declare module "*/scripts/app.js" {
  export const app: any;
}
