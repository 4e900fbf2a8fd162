var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
import { Injectable } from '@nestjs/common';
import { ApplicationConfig } from '@nestjs/core';
import { Observable } from 'rxjs';
import { recordOf, StorkContext } from './context.js';
/**
 * Nest's RPC exception filter turns every error into `Internal server error` before a transport sees it. This hook stands outside
 * guards, interceptors, pipes and handler, writes the original on the context, and does nothing else. Errors of a request-scoped
 * constructor happen before any hook; of those only Nest's own words are known.
 */
export const recordOriginalError = (execution, next) => {
  const context = execution.switchToRpc().getContext();
  if (!(context instanceof StorkContext)) return next();
  // Less than an operator: this stands in the way of every message, and only errors are of interest.
  return new Observable((subscriber) =>
    next().subscribe({
      next: (value) => subscriber.next(value),
      error: (error) => {
        recordOf(context).original = { error };
        subscriber.error(error);
      },
      complete: () => subscriber.complete(),
    }),
  );
};
/** Registers the hook for workers and for hybrid applications that inherit their configuration. */
let ErrorRecorder = class ErrorRecorder {
  constructor(config) {
    config.registerPreRequestHook(recordOriginalError);
  }
};
ErrorRecorder = __decorate(
  [Injectable(), __metadata('design:paramtypes', [ApplicationConfig])],
  ErrorRecorder,
);
export { ErrorRecorder };
