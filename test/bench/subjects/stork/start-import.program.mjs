await import('@nestjs/microservices');
await import('nestjs-stork/rabbitmq');
console.log('imported');
