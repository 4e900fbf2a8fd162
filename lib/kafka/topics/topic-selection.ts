export { findPatternProblems, TopicSelection } from '../../driver-kit/log/topic-selection.js';
