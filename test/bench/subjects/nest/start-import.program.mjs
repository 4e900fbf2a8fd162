await import('@nestjs/microservices');
console.log('imported');
